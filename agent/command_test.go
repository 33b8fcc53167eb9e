package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/wire"
)

// ask sends signed bytes as a command and gives the reply to the nonce; ok is
// false when none comes.
func (f *fleet) ask(verb, nonce string, data []byte, wait time.Duration) (reply wire.Reply, ok bool) {
	f.t.Helper()
	sub := must(f.api.SubscribeSync(wire.ReplySubject(deviceID, nonce)))(f.t)
	defer func() { _ = sub.Unsubscribe() }()
	if err := f.api.Publish(wire.CommandSubject(deviceID, verb), data); err != nil {
		f.t.Fatal(err)
	}
	msg, err := sub.NextMsg(wait)
	if errors.Is(err, nats.ErrTimeout) {
		return reply, false
	}
	if err != nil {
		f.t.Fatal(err)
	}
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		f.t.Fatal(err)
	}
	return reply, true
}

func TestCommands(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	dir := t.TempDir()
	r := f.run(dir)
	f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })

	_, otherKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	command := func(change func(*wire.Command)) wire.Command {
		n++
		c := wire.Command{SchemaVersion: 1, Device: deviceID, Verb: wire.VerbPing, Nonce: fmt.Sprintf("nonce-0123456789-%d", n), Expires: time.Now().Add(time.Minute)}
		if change != nil {
			change(&c)
		}
		return c
	}
	seal := func(c wire.Command, key ed25519.PrivateKey) []byte {
		return must(wire.Seal(wire.KindCommand, c, key))(t)
	}

	ping := command(nil)
	reply, ok := f.ask("ping", ping.Nonce, seal(ping, f.key), patience)
	if !ok || !reply.Done || reply.Error != nil || reply.Sequence != 0 {
		t.Fatalf("ping: %+v, answered %v", reply, ok)
	}

	const silence = 300 * time.Millisecond
	for name, tc := range map[string]struct {
		command wire.Command
		key     ed25519.PrivateKey
		verb    string
		want    wire.ReplyCode // "" means silence
	}{
		"replayed":       {command: ping},
		"another's key":  {command: command(nil), key: otherKey},
		"another device": {command: command(func(c *wire.Command) { c.Device = "pi-2" })},
		"another verb":   {command: command(nil), verb: "exec"},
		"expired":        {command: command(func(c *wire.Command) { c.Expires = time.Now().Add(-time.Second) }), want: wire.ReplyRefused},
		"too long":       {command: command(func(c *wire.Command) { c.Expires = time.Now().Add(time.Hour) }), want: wire.ReplyRefused},
		"unknown verb":   {command: command(func(c *wire.Command) { c.Verb = "dance" }), verb: "dance", want: wire.ReplyUnknownVerb},
	} {
		t.Run(name, func(t *testing.T) {
			key, verb, wait := f.key, "ping", silence
			if tc.key != nil {
				key = tc.key
			}
			if tc.verb != "" {
				verb = tc.verb
			}
			if tc.want != "" {
				wait = patience
			}
			reply, ok := f.ask(verb, tc.command.Nonce, seal(tc.command, key), wait)
			switch {
			case tc.want == "" && ok:
				t.Errorf("answered: %+v", reply)
			case tc.want != "" && (!ok || reply.Error == nil || reply.Error.Code != tc.want || reply.Error.Message == ""):
				t.Errorf("answered %v: %+v", ok, reply)
			}
		})
	}
	if _, ok := f.ask("ping", "nonce-0123456789-x", []byte(`{"device":"pi-1"}`), silence); ok {
		t.Error("an unsigned command was answered")
	}

	// A restart does not make an old command new.
	r.stop()
	f.run(dir)
	after := command(nil)
	for deadline := time.Now().Add(patience); ; {
		if _, ok := f.ask("ping", after.Nonce, seal(after, f.key), silence); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no answer after the restart")
		}
	}
	if _, ok := f.ask("ping", ping.Nonce, seal(ping, f.key), silence); ok {
		t.Error("a command was carried out again after a restart")
	}
}

// Ping answers while the agent is busy with everything else.
func TestPingIsQuick(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	f.run(t.TempDir())
	f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // hints without an end
		for ctx.Err() == nil {
			_ = f.api.Publish(wire.HintSubject(deviceID), []byte("look"))
			time.Sleep(time.Millisecond)
		}
	}()
	began := time.Now()
	c := wire.Command{SchemaVersion: 1, Device: deviceID, Verb: wire.VerbPing, Nonce: "nonce-0123456789-q", Expires: time.Now().Add(time.Minute)}
	_, ok := f.ask("ping", c.Nonce, must(wire.Seal(wire.KindCommand, c, f.key))(t), patience)
	if took := time.Since(began); !ok || took > patience/4 {
		t.Errorf("answered %v after %s", ok, took)
	}
}

// A device whose clock is a day off carries commands out that are timely by the
// fleet's clock, once each, and no others.
func TestCommandsByTheFleetsClock(t *testing.T) {
	for _, off := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			f := newFleet(t, "127.0.0.1")
			r := &running{engine: newEngine(), source: &source{}, ready: make(chan struct{}), fleetTime: func() time.Time { return time.Now().Add(off) }}
			r.source.set(callout.PSK(f.psk, deviceID))
			f.runAs(t.TempDir(), r)
			f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })
			for name, tc := range map[string]struct {
				expires time.Time
				want    bool
			}{
				"timely":  {time.Now().Add(off + time.Minute), true},
				"expired": {time.Now().Add(off - time.Minute), false},
				"neither": {time.Now().Add(off / 2), false},
			} {
				c := wire.Command{SchemaVersion: 1, Device: deviceID, Verb: wire.VerbPing, Nonce: "nonce-0123456789-" + name, Expires: tc.expires}
				sealed := must(wire.Seal(wire.KindCommand, c, f.key))(t)
				if reply, ok := f.ask("ping", c.Nonce, sealed, patience); !ok || (reply.Error == nil) != tc.want {
					t.Errorf("%s: answered %v: %+v", name, ok, reply)
				}
				if _, ok := f.ask("ping", c.Nonce, sealed, 300*time.Millisecond); ok && tc.want {
					t.Errorf("%s: carried out again", name)
				}
			}
		})
	}
}
