package serverapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

var inShop = wire.ExecRequest{Target: wire.Target{Deployment: "shop"}, Command: []string{"sh"}, Stdin: true}

// TestSession: input reaches the device in order, its answer comes back, and
// the exit code with it.
func TestSession(t *testing.T) {
	c := start(t)
	var heard bytes.Buffer
	device(t, c, func(command wire.Command) []wire.Reply {
		switch command.Verb {
		case wire.VerbExec:
			return []wire.Reply{{Data: frame(wire.FrameStdout, "out")}, {Data: frame(wire.FrameStderr, "err")},
				{Data: frame(wire.FrameExit, "\x00\x00\x00\x07"), Done: true}}
		case wire.VerbUpload:
			return []wire.Reply{{}} // it reads for ever
		case wire.VerbInput:
			var piece wire.StreamInput
			if err := json.Unmarshal(command.Body, &piece); err != nil {
				t.Error(err)
			}
			heard.Write(piece.Data)
		}
		return nil
	})
	var out, errOut bytes.Buffer
	code, err := c.Exec(timeout(t), "pi-1", inShop, apiclient.Terminal{In: strings.NewReader("hello"), Out: &out, ErrOut: &errOut})
	if err != nil || code != 7 || out.String() != "out" || errOut.String() != "err" {
		t.Errorf("exit code %d, %q, %q, %v", code, out.String(), errOut.String(), err)
	}

	// Roles, and what makes no sense, as for every other request.
	if _, err := c.as(t, "victor", "fleet-viewer").Exec(timeout(t), "pi-1", inShop, apiclient.Terminal{}); apiclient.Code(err) != api.CodeForbidden || hint.Code(err) != hint.CodeAuth {
		t.Errorf("a viewer: %v", err)
	}
	if _, err := c.Exec(timeout(t), "pi-1", wire.ExecRequest{}, apiclient.Terminal{}); apiclient.Code(err) != api.CodeBadRequest {
		t.Errorf("no command: %v", err)
	}
	if _, err := c.Exec(timeout(t), "pi-2", inShop, apiclient.Terminal{}); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("unknown device: %v", err)
	}
	records := must(c.Audit(timeout(t), apiclient.AuditQuery{Device: "pi-1"}))(t).Records
	var lines []string
	for _, r := range records {
		lines = append(lines, r.Who+" "+r.Action+" "+r.Outcome)
	}
	if all := strings.Join(lines, "\n"); !strings.Contains(all, `admin-token exec shop ["sh"] begun`) || !strings.Contains(all, `admin-token exec shop ["sh"] ok`) {
		t.Errorf("on record:\n%s", all)
	}
}

// TestSessionEnds: when the caller goes, from either direction, nothing waits.
func TestSessionEnds(t *testing.T) {
	c := start(t)
	_, controls := device(t, c, func(command wire.Command) []wire.Reply {
		if command.Verb == wire.VerbForward {
			return []wire.Reply{{Data: []byte("welcome")}}
		}
		return nil
	})
	ctx, cancel := context.WithCancel(timeout(t))
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		defer there.Close() // nobody reads on when it failed
		ended <- c.Forward(ctx, "pi-1", wire.ForwardRequest{Target: wire.Target{Deployment: "shop"}, Port: 80}, there, there)
	}()
	if _, err := io.ReadFull(here, make([]byte, len("welcome"))); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Fatal("the caller waits though it has gone")
	}
	for deadline := time.After(patience); ; {
		select {
		case s := <-controls:
			if s.Cancel {
				return
			}
		case <-deadline:
			t.Fatal("the device was not told")
		}
	}
}
