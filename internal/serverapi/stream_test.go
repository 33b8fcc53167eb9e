package serverapi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

// device answers every command but controls with reply's parts; controls go to
// the channel. The server knows that it is connected.
func device(t *testing.T, c *control, reply func(wire.Command) []wire.Reply) (nc *nats.Conn, controls <-chan wire.StreamControl) {
	t.Helper()
	e := must(c.Enrol(timeout(t), "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t)
	heard := make(chan wire.StreamControl, 100)
	nc = must(nats.Connect(e.NATSURLs[0], nats.UserInfo("pi-1", string(e.PSK)), nats.RootCAs(c.ca.Path()),
		nats.CustomInboxPrefix(wire.InboxPrefix("pi-1")), nats.NoReconnect()))(t)
	t.Cleanup(nc.Close)
	must(nc.Subscribe(wire.CommandSubject("pi-1", "*"), func(m *nats.Msg) {
		var command wire.Command
		if err := wire.Open(wire.KindCommand, m.Data, e.SigningKeys.Keys, &command); err != nil {
			t.Error(err)
			return
		}
		if command.Verb == wire.VerbStream {
			var s wire.StreamControl
			if err := json.Unmarshal(command.Body, &s); err != nil {
				t.Error(err)
			}
			heard <- s
			return
		}
		for i, r := range reply(command) {
			r.Sequence = uint64(i)
			data := must(json.Marshal(r))(t)
			if err := nc.Publish(wire.ReplySubject("pi-1", command.Nonce), data); err != nil {
				t.Error(err)
			}
		}
	}))(t)
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	c.awaitConnected(t, e.DeviceID, nc)
	return nc, heard
}

func frame(stream byte, text string) []byte {
	header := make([]byte, wire.FrameHeaderBytes)
	header[0] = stream
	binary.BigEndian.PutUint32(header[4:], uint32(len(text)))
	return append(header, text...)
}

func TestStreams(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	web := wire.Target{Deployment: "web", Service: "db"}
	logs := wire.LogsRequest{Target: web, Follow: true}
	var out, errOut bytes.Buffer
	if err := c.Logs(ctx, "pi-1", logs, &out, &errOut); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("unknown device: %v", err)
	}
	var answer []wire.Reply
	nc, controls := device(t, c, func(wire.Command) []wire.Reply { return answer })

	// Frames may be cut anywhere.
	both := append(frame(wire.FrameStdout, "hello\n"), frame(wire.FrameStderr, "oh\n")...)
	answer = []wire.Reply{{Data: both[:3]}, {Data: both[3:10]}, {Data: both[10:]}, {Done: true}}
	if err := c.Logs(ctx, "pi-1", logs, &out, &errOut); err != nil || out.String() != "hello\n" || errOut.String() != "oh\n" {
		t.Errorf("logs: %q, %q, %v", out.String(), errOut.String(), err)
	}
	answer = []wire.Reply{{Data: both[:9], Done: true}}
	if err := c.Logs(ctx, "pi-1", logs, &out, &errOut); err == nil {
		t.Error("a cut frame was not noticed")
	}
	answer = []wire.Reply{{Data: []byte(`[1]`), Done: true}}
	out.Reset()
	if err := c.Inspect(ctx, "pi-1", web, &out); err != nil || out.String() != "[1]" {
		t.Errorf("inspect: %q, %v", out.String(), err)
	}
	answer = []wire.Reply{{Done: true}}
	if err := c.Restart(ctx, "pi-1", web); err != nil {
		t.Errorf("restart: %v", err)
	}
	for _, before := range [][]wire.Reply{nil, {{Data: frame(wire.FrameStdout, "x")}}} {
		answer = append(before, wire.Reply{Done: true, Error: &wire.ReplyError{Code: wire.ReplyNotFound, Message: "no service db"}})
		err := c.Logs(ctx, "pi-1", logs, &out, &errOut)
		if apiclient.Code(err) != api.CodeNoSuchService || hint.Of(err) == "" || !strings.Contains(err.Error(), "no service db") {
			t.Errorf("after %d parts: %v", len(before), err)
		}
	}
	if err := c.Restart(ctx, "pi-1", wire.Target{Deployment: "../x"}); apiclient.Code(err) != api.CodeBadRequest {
		t.Errorf("bad name: %v", err)
	}

	// A caller who goes is noticed on the device.
	answer = []wire.Reply{{Data: frame(wire.FrameStdout, "first")}}
	calling, cancel := context.WithCancel(ctx)
	first := writerFunc(func([]byte) { cancel() })
	if err := c.Logs(calling, "pi-1", logs, first, first); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for cancelled := false; !cancelled; {
		select {
		case s := <-controls:
			cancelled = s.Cancel
		case <-time.After(patience):
			t.Fatal("the device was not told that the caller has gone")
		}
	}

	// So is a device that goes.
	gone := writerFunc(func([]byte) { nc.Close() })
	if err := c.Logs(ctx, "pi-1", logs, gone, gone); apiclient.Code(err) != api.CodeDeviceOffline || hint.Code(err) != hint.CodeUnreachable {
		t.Errorf("device gone: %v", err)
	}
	for _, want := range []string{`op="logs web/db"`, "outcome=begun", `op="restart web/db"`, `outcome="no service db"`} {
		if !strings.Contains(c.audit.String(), want) {
			t.Errorf("no audit line with %s in:\n%s", want, c.audit)
		}
	}
}

type writerFunc func([]byte)

func (w writerFunc) Write(p []byte) (int, error) { w(p); return len(p), nil }
