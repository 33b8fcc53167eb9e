package broker_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/wire"
)

func errorAck(ack string) bool {
	return !strings.Contains(ack, `"seq":`) || strings.Contains(ack, `"error":`)
}

// TestWhatADeviceMayDo is the counterpart of the attacks: without it they could
// all pass because nothing works.
func TestWhatADeviceMayDo(t *testing.T) {
	f := newFleet(t)
	checkDeviceWorks(t, f, f.device(t, "pi-1"))
}

// checkDeviceWorks does everything that an agent does, once.
func checkDeviceWorks(t *testing.T, f *fleet, d *device) {
	t.Helper()
	ctx := timeout(t)

	// Reports arrive whole.
	for b, key := range map[wire.Bucket]string{
		wire.BucketState: wire.StateKey(d.id), wire.BucketInfo: wire.InfoKey(d.id), wire.BucketHeartbeat: wire.HeartbeatKey(d.id),
	} {
		data := must(json.Marshal(map[string]string{"device": d.id, "bucket": string(b)}))(t)
		if err := d.put(b, key, data); err != nil {
			t.Fatalf("put %s: %v", key, err)
		}
		if got, err := f.store.Get(ctx, b, key); err != nil || string(got.Data) != string(data) {
			t.Fatalf("%s has %q, %v", key, got.Data, err)
		}
	}

	// A manifest is hinted; it and its deployments can be fetched.
	hints := must(d.nc.SubscribeSync(wire.HintSubject(d.id)))(t)
	commands := must(d.nc.SubscribeSync(wire.CommandSubject(d.id, "*")))(t)
	if err := d.nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.PutDesired(ctx, d.id, "web", []byte(`{"deployment":"web"}`), kv.Any); err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.PutManifest(ctx, d.id, []byte(`{"manifest":1}`), kv.Any); err != nil {
		t.Fatal(err)
	}
	if _, err := hints.NextMsg(patience); err != nil {
		t.Fatalf("no hint: %v", err)
	}
	for key, want := range map[string]string{
		wire.ManifestKey(d.id): `{"manifest":1}`, wire.DesiredKey(d.id, "web"): `{"deployment":"web"}`,
	} {
		// In a cluster the copy that answers may be a moment behind.
		eventually(t, "direct get of "+key, func() bool {
			msg, err := d.get(key)
			return err == nil && string(msg.Data) == want
		})
	}
	if msg, err := d.get(wire.DesiredKey(d.id, "none")); err != nil || msg.Header.Get("Status") != "404" {
		t.Fatalf("direct get of a missing key: %v, %v", msg, err)
	}

	// A command reaches the device, its answers reach the server.
	const nonce = "0123456789abcdef"
	replies := must(f.api.SubscribeSync(wire.ReplySubject(d.id, nonce)))(t)
	defer func() { _ = replies.Unsubscribe() }()
	if err := f.api.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if err := f.api.PublishMsg(&nats.Msg{Subject: wire.CommandSubject(d.id, "ping"), Data: []byte("command")}); err != nil {
		t.Fatal(err)
	}
	command, err := commands.NextMsg(patience)
	if err != nil || string(command.Data) != "command" {
		t.Fatalf("command: %v, %v", command, err)
	}
	for _, part := range []string{"one", "two"} {
		if err := d.nc.Publish(wire.ReplySubject(d.id, nonce), []byte(part)); err != nil {
			t.Fatal(err)
		}
		if msg, err := replies.NextMsg(patience); err != nil || string(msg.Data) != part {
			t.Fatalf("reply: %v, %v", msg, err)
		}
	}
	select {
	case err := <-d.errs:
		t.Fatalf("the server complained: %v", err)
	default:
	}
	_, _ = hints.Unsubscribe(), commands.Unsubscribe()
}

func TestStrangersAreRefused(t *testing.T) {
	f := newFleet(t)
	psk := func(id string) nats.Option { return nats.UserInfo(id, "00"+strings.Repeat("ab", 31)) }
	for name, o := range map[string][]nats.Option{
		"no credentials": {nats.UserInfo("", "")},
		"wrong password": {psk("pi-1")},
		"empty password": {nats.UserInfo("pi-1", "")},
		"token":          {nats.UserInfo("", ""), nats.Token("secret")},
		"name of a role": {psk("operator")},
		"system user":    {nats.UserInfo("sys", "sys")},
	} {
		t.Run(name, func(t *testing.T) {
			if d, err := f.dial("pi-1", append([]nats.Option{nats.Token("")}, o...)...); err == nil {
				d.nc.Close()
				t.Fatal("let in")
			}
		})
	}
	f.mu.Lock()
	f.denied["pi-2"] = true
	f.mu.Unlock()
	if _, err := f.dial("pi-2"); err == nil {
		t.Error("a revoked device was let in")
	}
	for name, o := range map[string]nats.Option{
		"password": nats.UserInfo("pi-1", callout.PSK(f.key, "pi-1")), "token": nats.Token(f.token("pi-1")),
	} {
		if _, err := f.dial("pi-1", nats.Token(""), o); err != nil {
			t.Errorf("the right %s was refused: %v", name, err)
		}
	}
}

func TestNewestConnectionWins(t *testing.T) {
	f := newFleet(t)
	first := f.device(t, "pi-1")
	eventually(t, "first connection seen", func() bool { _, ok := f.presence.Connection("pi-1"); return ok })
	second := f.device(t, "pi-1")
	select {
	case <-first.closed:
	case <-timeout(t).Done():
		t.Fatal("the first connection was not ended")
	}
	if err := second.nc.FlushTimeout(patience); err != nil {
		t.Fatalf("the second connection was ended: %v", err)
	}
	if f.presence.Count() != 1 {
		t.Errorf("%d devices connected", f.presence.Count())
	}

	if err := f.presence.Disconnect(timeout(t), "pi-1"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-second.closed:
	case <-timeout(t).Done():
		t.Fatal("not disconnected")
	}
	eventually(t, "gone", func() bool { return f.presence.Count() == 0 })
}
