package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent"
	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/wire"
)

// puppet is an engine whose logs a test writes.
type puppet struct {
	agent.NoEngine
	logs  func(ctx context.Context, out io.Writer) error
	ended chan error // receives what a Logs ended with
}

func (p *puppet) Restart(context.Context, wire.Target) error {
	return &wire.ReplyError{Code: wire.ReplyNotFound, Message: "no such thing"}
}

func (p *puppet) Inspect(_ context.Context, t wire.Target) ([]byte, error) {
	return fmt.Appendf(nil, "[%q]", t.Deployment), nil
}

func (p *puppet) Logs(ctx context.Context, _ wire.LogsRequest, out io.Writer) error {
	err := p.logs(ctx, out)
	p.ended <- err
	return err
}

type signer struct{ f *fleet }

func (s signer) Seal(kind wire.Kind, v any) ([]byte, error) { return wire.Seal(kind, v, s.f.key) }

// hands runs an agent with a puppet behind the real broker.
func hands(t *testing.T) (*fleet, *puppet, *commands.Sender) {
	f := newFleet(t, "127.0.0.1")
	p := &puppet{ended: make(chan error, 1)}
	f.runWith(t.TempDir(), p)
	f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })
	return f, p, commands.NewSender(f.api, signer{f})
}

func request(verb wire.Verb, body string) commands.Request {
	return commands.Request{Device: deviceID, Verb: verb, Body: []byte(body), Timeout: 10 * time.Second}
}

const aboutWeb = `{"deployment":"web"}`

func TestHands(t *testing.T) {
	_, p, sender := hands(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	collect := func(into *bytes.Buffer) func([]byte) error {
		return func(data []byte) error { into.Write(data); return nil }
	}

	var got bytes.Buffer
	if err := sender.Stream(ctx, request(wire.VerbInspect, aboutWeb), collect(&got)); err != nil || got.String() != `["web"]` {
		t.Errorf("inspect: %q, %v", got.String(), err)
	}
	var refused *commands.RefusedError
	if err := sender.Stream(ctx, request(wire.VerbRestart, aboutWeb), collect(&got)); !errors.As(err, &refused) || refused.Reply.Code != wire.ReplyNotFound {
		t.Errorf("restart: %v", err)
	}
	for _, bad := range []string{``, `{}`, `{"deployment":"A"}`, `{"deployment":"../x"}`, `{"deployment":"web","service":"?x=y"}`} {
		if err := sender.Stream(ctx, request(wire.VerbInspect, bad), collect(&got)); !errors.As(err, &refused) || refused.Reply.Code != wire.ReplyBadRequest {
			t.Errorf("body %q: %v", bad, err)
		}
	}

	// An answer far beyond the window arrives whole, and no message is too big.
	want := bytes.Repeat([]byte("0123456789abcdef"), 4*wire.StreamWindow*wire.MaxPartBytes/16)
	p.logs = func(_ context.Context, out io.Writer) error {
		_, err := out.Write(want)
		return err
	}
	got.Reset()
	if err := sender.Stream(ctx, request(wire.VerbLogs, aboutWeb), collect(&got)); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d of %d bytes: %v", got.Len(), len(want), err)
	}
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
}

// A receiver that stops taking stops the device, and one that goes ends what
// runs there.
func TestHandsBackpressureAndCancel(t *testing.T) {
	_, p, sender := hands(t)
	written := make(chan int, 1)
	p.logs = func(_ context.Context, out io.Writer) error {
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for n := 0; ; n += len(line) {
			if _, err := out.Write(line); err != nil {
				written <- n
				return err
			}
		}
	}
	gone := errors.New("gone")
	parts := 0
	err := sender.Stream(t.Context(), request(wire.VerbLogs, aboutWeb), func([]byte) error {
		if parts++; parts == 3 {
			return gone
		}
		return nil
	})
	if !errors.Is(err, gone) {
		t.Fatalf("error is %v", err)
	}
	select {
	case err := <-p.ended:
		if err == nil {
			t.Error("the endless logs ended by themselves")
		}
	case <-time.After(patience):
		t.Fatal("the logs are still read though nobody wants them")
	}
	if most := (wire.StreamWindow + 4) * wire.MaxPartBytes; <-written > most {
		t.Errorf("more than %d bytes were written to somebody who took three parts", most)
	}

	ctx, cancel := context.WithCancel(t.Context())
	p.logs = func(ctx context.Context, out io.Writer) error {
		_, err := out.Write([]byte("first"))
		<-ctx.Done()
		return errors.Join(err, ctx.Err())
	}
	began := time.Now()
	err = sender.Stream(ctx, request(wire.VerbLogs, aboutWeb), func([]byte) error {
		t.Logf("first byte after %s", time.Since(began))
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	select {
	case err := <-p.ended:
		t.Logf("the logs ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the logs are still followed though the caller has gone")
	}
}
