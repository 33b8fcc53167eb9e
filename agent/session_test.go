package agent_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent"
	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/wire"
)

// typist is an engine whose commands a test writes.
type typist struct {
	puppet
	exec func(ctx context.Context, in agent.Terminal, out io.Writer) (int, error)
}

func (p *typist) Exec(ctx context.Context, _ wire.ExecRequest, in agent.Terminal, out io.Writer) (int, error) {
	code, err := p.exec(ctx, in, out)
	p.ended <- err
	return code, err
}

func (p *typist) Forward(_ context.Context, _ wire.ForwardRequest, in io.Reader, out io.Writer) error {
	_, err := io.Copy(out, in)
	return err
}

func (p *typist) Stat(context.Context, wire.CopyRequest) (wire.FileInfo, error) {
	return wire.FileInfo{}, nil
}
func (p *typist) Download(context.Context, wire.CopyRequest, io.Writer) error { return nil }
func (p *typist) Upload(context.Context, wire.CopyRequest, io.Reader) error   { return nil }

func sessions(t *testing.T) (*typist, *commands.Sender) {
	f := newFleet(t, "127.0.0.1")
	p := &typist{puppet: puppet{ended: make(chan error, 1)}}
	f.runWith(t.TempDir(), p)
	f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })
	return p, commands.NewSender(f.api, signer{f})
}

const shell = `{"deployment":"web","command":["sh"],"stdin":true}`

// pieces sends data as input, then its end.
func pieces(ctx context.Context, data []byte) <-chan wire.StreamInput {
	to := make(chan wire.StreamInput)
	go func() {
		defer close(to)
		for len(data) > 0 {
			n := min(len(data), wire.MaxInputBytes)
			select {
			case to <- wire.StreamInput{Data: data[:n]}:
			case <-ctx.Done():
				return
			}
			data = data[n:]
		}
		select {
		case to <- wire.StreamInput{End: true}:
		case <-ctx.Done():
		}
	}()
	return to
}

// TestSessionInput: far more than the window goes there and back unharmed,
// through a command that echoes.
func TestSessionInput(t *testing.T) {
	_, sender := sessions(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := make([]byte, 5*wire.InputWindow*wire.MaxInputBytes+17)
	if _, err := rand.Read(want); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	err := sender.Session(ctx, request(wire.VerbForward, `{"deployment":"web","port":80}`), pieces(ctx, want), func(p []byte) error { got.Write(p); return nil })
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d of %d bytes came back: %v", got.Len(), len(want), err)
	}
}

// TestSessionBackpressure: a command that reads nothing stops its sender, and
// sizes reach it all the same.
func TestSessionBackpressure(t *testing.T) {
	p, sender := sessions(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.exec = func(_ context.Context, in agent.Terminal, out io.Writer) (int, error) {
		size := <-in.Sizes()
		if size != (wire.Size{Rows: 7, Columns: 70}) {
			t.Errorf("size is %+v", size)
		}
		return 3, nil
	}
	taken := 0
	input := make(chan wire.StreamInput)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for taken < 4*wire.InputWindow {
			piece := wire.StreamInput{Data: []byte("x")}
			if taken == wire.InputWindow-1 {
				piece = wire.StreamInput{Size: &wire.Size{Rows: 7, Columns: 70}}
			}
			select {
			case input <- piece:
				taken++
			case <-ctx.Done():
				return
			}
		}
	}()
	var got bytes.Buffer
	err := sender.Session(ctx, request(wire.VerbExec, shell), input, func(p []byte) error { got.Write(p); return nil })
	if err != nil || got.String() != string(wire.Frame(wire.FrameExit, []byte{0, 0, 0, 3})) {
		t.Errorf("%q, %v", got.Bytes(), err)
	}
	cancel()
	if <-stop; taken > wire.InputWindow {
		t.Errorf("%d pieces were taken for a command that reads none", taken)
	}
}

// TestSessionEnds: the command ends when the caller goes, when input is lost,
// and when more comes than was asked for.
func TestSessionEnds(t *testing.T) {
	p, sender := sessions(t)
	p.exec = func(ctx context.Context, in agent.Terminal, out io.Writer) (int, error) {
		if _, err := out.Write(wire.Frame(wire.FrameStdout, []byte("ready"))); err != nil {
			return 0, err
		}
		_, err := io.Copy(io.Discard, in)
		return 0, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := sender.Session(ctx, request(wire.VerbExec, shell), make(chan wire.StreamInput), func([]byte) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the caller went: %v", err)
	}
	select {
	case err := <-p.ended:
		if err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("the command ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the command goes on though the caller has gone")
	}
	for _, bad := range []string{`{"deployment":"web"}`, `{"deployment":"web","command":[""]}`, `{"deployment":"A","command":["sh"]}`} {
		var refused *commands.RefusedError
		if err := sender.Stream(t.Context(), request(wire.VerbExec, bad), func([]byte) error { return nil }); !errors.As(err, &refused) || refused.Reply.Code != wire.ReplyBadRequest {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
