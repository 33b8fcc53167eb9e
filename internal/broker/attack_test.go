package broker_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/wire"
)

// TestAttacks lets a stolen device try everything against another, on a real
// server with the real callout. Each attack has a device of its own.
func TestAttacks(t *testing.T) {
	f := newFleet(t)
	j := newJudge(t, f)
	for i, a := range attacks() {
		id := fmt.Sprintf("evil-%d", i)
		t.Run(a.name, func(t *testing.T) {
			for _, harm := range j.try(t, a, id) {
				t.Error(harm)
			}
		})
		if t.Failed() && testing.Short() {
			return
		}
	}
	checkDeviceWorks(t, f, f.device(t, "pi-1"))
}

// try runs one attack and gives the harm that it did.
func (j *judge) try(t *testing.T, a attack, id string) []string {
	t.Helper()
	return j.tryAll(t, map[string]attack{id: a})
}

// tryAll runs attacks, each by a device of its own, and gives the harm that
// they did together.
func (j *judge) tryAll(t *testing.T, attacks map[string]attack) []string {
	t.Helper()
	ids := slices.Sorted(maps.Keys(attacks))
	clients := map[string]*raw{}
	for _, id := range ids {
		clients[id] = j.f.rawAs(t, id)
		defer clients[id].conn.Close()
	}
	before, strays := j.snapshot(t, ids...), j.strays.Load()
	headers := false
	for _, id := range ids {
		attacks[id].run(clients[id], id)
		clients[id].settle() // false when the server hung up, which is its right
		headers = headers || strings.HasPrefix(attacks[id].name, "header")
	}
	j.drain(t)
	harm := j.verdict(t, ids, before, strays)
	j.stimulus(t)
	if headers {
		j.watchAnew(t)
	}
	for _, id := range ids {
		clients[id].settle()
		if excerpt, found := leak(clients[id].loot()); found {
			harm = append(harm, fmt.Sprintf("%s (%s) got …%q…", id, attacks[id].name, excerpt))
		}
	}
	return harm
}

// TestJudgeSeesHarm shows that the judge of the attacks is not blind.
func TestJudgeSeesHarm(t *testing.T) {
	f := newFleet(t)
	j := newJudge(t, f)
	operator := func(subject, payload string) func(*raw, string) {
		return func(*raw, string) {
			if _, err := f.operator.Request(subject, []byte(payload), patience); err != nil { // the answer comes when it is done
				t.Error(err)
			}
		}
	}
	for _, a := range []attack{
		{"another manifest", operator(wire.BucketDesired.Subject(victimID), "forged")},
		{"the same bytes again", operator(wire.BucketDesired.Subject(victimID), secret)},
		{"a new key", operator(wire.BucketDesired.Subject("evil.x"), "forged")},
		{"a purge", operator("$JS.API.STREAM.PURGE.KV_device-info", "")},
		{"a consumer", operator("$JS.API.CONSUMER.CREATE.KV_device-info.c", `{"stream_name":"KV_device-info","config":{"name":"c","inactive_threshold":60000000000}}`)},
		{"a command", func(*raw, string) {
			_ = f.api.Publish(wire.CommandSubject(victimID, "ping"), nil)
			_ = f.api.FlushTimeout(patience)
		}},
		{"an answer for the victim", func(*raw, string) { _ = j.victim.nc.Publish(wire.ReplySubject(victimID, "x"), nil) }},
		{"a leak", func(r *raw, id string) {
			r.sub(wire.HintSubject(id))
			r.settle()
			_ = f.operator.PublishMsg(&nats.Msg{Subject: wire.BucketDesired.Subject(id), Header: nats.Header{"X": {secret}}})
			_ = f.operator.FlushTimeout(patience)
		}},
	} {
		t.Run(a.name, func(t *testing.T) {
			if harm := j.try(t, a, "evil"); len(harm) == 0 {
				t.Error("not seen")
			}
		})
	}
}

// TestAttacksBite takes a protection away and wants the attack against it to
// work: else the suite would pass because its attacks are wrong.
func TestAttacksBite(t *testing.T) {
	for name, tt := range map[string]struct {
		run    starter
		attack string
	}{
		"hints without mappings":    {broker.StartWithoutMappings, "reply to desired." + victimID},
		"commands without mappings": {broker.StartWithoutMappings, "reply to device-commands." + victimID + ".ping"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleetWith(t, tt.run)
			victim := f.device(t, victimID)
			heard := make(chan *nats.Msg, 64)
			for _, s := range []string{wire.HintSubject(victimID), wire.CommandSubject(victimID, "*")} {
				must(victim.nc.ChanSubscribe(s, heard))(t)
			}
			if err := victim.nc.FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(attacks(), func(a attack) bool { return a.name == tt.attack })
			r := f.rawAs(t, "evil")
			attacks()[i].run(r, "evil")
			eventually(t, "the attack works", func() bool { return len(heard) > 0 })
		})
	}
}

// TestLimitsHold wants the server's own words for what a device may not exceed.
func TestLimitsHold(t *testing.T) {
	f := newFleet(t)
	for name, want := range map[string]string{
		"10,000 subscriptions": "Maximum Subscriptions Exceeded", "a payload of 128 KiB + 1": "Maximum Payload Violation",
		"a state of 64 KiB + 1": "message size exceeds maximum allowed", "a heartbeat of 4 KiB + 1": "message size exceeds maximum allowed",
		"a control line without end": "Maximum Control Line Exceeded",
	} {
		i := slices.IndexFunc(attacks(), func(a attack) bool { return a.name == name })
		id := fmt.Sprintf("evil-%d", i)
		r := f.rawAs(t, id)
		r.sub("_INBOX." + id + ".>")
		attacks()[i].run(r, id)
		r.settle()
		eventually(t, name+" is refused", func() bool { return strings.Contains(strings.ToLower(r.bytes()), strings.ToLower(want)) })
	}
}

// TestPlaintextIsRefused sends a password in the clear; it must not be taken.
func TestPlaintextIsRefused(t *testing.T) {
	f := newFleet(t)
	conn := must(net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(f.broker.Port()))))(t)
	defer conn.Close()
	must(fmt.Fprint(conn, connectLine(password("pi-1", callout.PSK(f.key, "pi-1")))+"PING\r\n"))(t)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) || strings.Contains(string(said), "PONG") {
		t.Errorf("the server went on in the clear: %v, %.200q", err, said)
	}
}

// TestHostileIDs connects with ids that would widen the permissions, and with
// the right password for them: the id alone has to stop them.
func TestHostileIDs(t *testing.T) {
	f := newFleet(t)
	for _, id := range []string{
		"*", ">", "a.b", "pi-1.>", ".", "", " ", "pi 1", "pi-1\n", "pi-1\x00", "PI-1", "pi_1", "-pi", "pi-", "pі-1", "pi‑1", "ｐi-1",
		strings.Repeat("a", 64), "$SYS", "pi-1 >", "{{name()}}",
	} {
		d, err := f.dial("pi-1", nats.Token(""), nats.UserInfo(id, callout.PSK(f.key, id)))
		if err == nil {
			d.nc.Close()
			t.Errorf("%q was let in", id)
		}
	}
}
