package broker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	victimID = "pi-victim"
	canaryID = "pi-canary"
	secret   = "VICTIM-SECRET" // in everything of the victim
)

// judge watches a victim and the whole server while it is attacked.
type judge struct {
	f      *fleet
	victim *device
	// strays counts messages that the victim or the control plane got and
	// that nobody entitled sent.
	strays  atomic.Int64
	expect  atomic.Bool // the stimulus is running: messages are due
	arrived atomic.Int64
	// watched counts what the operator's watches hear of the victim.
	watched atomic.Int64
}

func newJudge(t *testing.T, f *fleet) *judge {
	t.Helper()
	j := &judge{f: f, victim: f.device(t, victimID)}
	count := func(m *nats.Msg) {
		if j.expect.Load() {
			j.arrived.Add(1)
			return
		}
		j.strays.Add(1)
		t.Logf("stray message on %s: %.200q", m.Subject, m.Data)
	}
	for _, subject := range []string{wire.HintSubject(victimID), wire.CommandSubject(victimID, "*")} {
		must(j.victim.nc.Subscribe(subject, count))(t)
	}
	must(f.api.Subscribe(wire.ReplySubject(victimID, "*"), count))(t)
	if err := f.api.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = f.store.WatchStates(t.Context(), kv.Handler[wire.DeviceState]{Update: func(u kv.Update[wire.DeviceState]) {
			if u.Device == victimID {
				j.watched.Add(1)
			}
		}})
	}()
	eventually(t, "the operator's watch runs", func() bool {
		return j.victim.put(wire.BucketState, wire.StateKey(victimID), []byte(secret)) == nil && j.watched.Load() > 0
	})
	j.stimulus(t)
	return j
}

// watchAnew begins a watch, as an operator that restarts: what attackers left
// in the bucket must not keep it from getting in sync.
func (j *judge) watchAnew(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	synced := false
	_ = j.f.store.WatchStates(ctx, kv.Handler[wire.DeviceState]{
		Update: func(kv.Update[wire.DeviceState]) {},
		Synced: func() { synced = true; cancel() },
	})
	if !synced {
		t.Error("a new watch does not get in sync")
	}
}

// stimulus is a moment of ordinary life: the victim reports and fetches, the
// control plane writes and commands. All of it carries the secret, and all of
// it has to work.
func (j *judge) stimulus(t *testing.T) {
	t.Helper()
	j.expect.Store(true)
	defer j.expect.Store(false)
	ctx := timeout(t)
	before, watched := j.arrived.Load(), j.watched.Load()
	for b, key := range map[wire.Bucket]string{
		wire.BucketState: wire.StateKey(victimID), wire.BucketInfo: wire.InfoKey(victimID), wire.BucketHeartbeat: wire.HeartbeatKey(victimID),
	} {
		if err := j.victim.put(b, key, []byte(secret)); err != nil {
			t.Errorf("the victim cannot report to %s: %v", b, err)
		}
	}
	if _, err := j.f.store.PutDesired(ctx, victimID, "web", []byte(secret), kv.Any); err != nil {
		t.Error(err)
	}
	if _, err := j.f.store.PutManifest(ctx, victimID, []byte(secret), kv.Any); err != nil {
		t.Error(err)
	}
	for _, key := range []string{wire.ManifestKey(victimID), wire.DesiredKey(victimID, "web")} {
		eventually(t, "the victim fetches "+key, func() bool {
			msg, err := j.victim.get(key)
			return err == nil && string(msg.Data) == secret
		})
	}
	if err := j.f.api.Publish(wire.CommandSubject(victimID, "ping"), []byte(secret)); err != nil {
		t.Error(err)
	}
	if err := j.victim.nc.Publish(wire.ReplySubject(victimID, "0123456789abcdef"), []byte(secret)); err != nil {
		t.Error(err)
	}
	eventually(t, "hint, command and reply arrive", func() bool { return j.arrived.Load() == before+3 })
	eventually(t, "the operator's watch sees the victim's report", func() bool { return j.watched.Load() > watched })
}

// snapshot is everything that an attack must not change. Keys of the attackers
// themselves are left out, but only those that they may write.
func (j *judge) snapshot(t *testing.T, attackers ...string) map[string]string {
	t.Helper()
	ctx := timeout(t)
	own := map[string]bool{wire.BucketDesired.Subject(wire.ManifestKey(canaryID)): true} // see drain
	for _, id := range attackers {
		own[wire.BucketState.Subject(wire.StateKey(id))] = true
		own[wire.BucketInfo.Subject(wire.InfoKey(id))] = true
		own[wire.BucketHeartbeat.Subject(wire.HeartbeatKey(id))] = true
	}
	seen := map[string]string{}
	jsz, err := j.f.broker.Server().Jsz(&server.JSzOptions{Accounts: true, Streams: true, Consumer: true, Config: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range jsz.AccountDetails {
		for _, s := range account.Streams {
			seen["stream "+account.Name+"/"+s.Name] = fmt.Sprintf("%+v consumers=%d", *s.Config, len(s.Consumer))
		}
	}
	js := j.f.admin(t)
	for _, b := range wire.Buckets() {
		stream := must(js.Stream(ctx, b.Stream()))(t)
		info := must(stream.Info(ctx, jetstream.WithSubjectFilter(">")))(t)
		for subject := range info.State.Subjects {
			if own[subject] {
				continue
			}
			// Of the leader, since others may be behind; and as it comes: a
			// library takes a stored "Status" header for its own.
			query := must(json.Marshal(map[string]string{"last_by_subj": subject}))(t)
			msg := must(j.f.judge.Request("$JS.API.STREAM.MSG.GET."+b.Stream(), query, patience))(t)
			seen[subject] = string(msg.Data)
		}
	}
	return seen
}

// verdict says what an attack achieved; nil is what it should be.
func (j *judge) verdict(t *testing.T, attackers []string, before map[string]string, strays int64) []string {
	t.Helper()
	var harm []string
	after := j.snapshot(t, attackers...)
	if !maps.Equal(before, after) {
		for k := range union(before, after) {
			if before[k] != after[k] {
				harm = append(harm, fmt.Sprintf("%s changed from %.300q to %.300q", k, before[k], after[k]))
			}
		}
	}
	if n := j.strays.Load() - strays; n > 0 {
		harm = append(harm, fmt.Sprintf("%d messages reached the victim or the control plane", n))
	}
	if j.victim.nc.IsClosed() {
		harm = append(harm, "the victim was disconnected")
	}
	return harm
}

// leak finds something of the victim in what an attacker got.
func leak(loot string) (excerpt string, found bool) {
	for _, mark := range []string{secret, victimID} {
		if i := strings.Index(loot, mark); i >= 0 {
			return loot[max(0, i-200):min(len(loot), i+200)], true
		}
	}
	return "", false
}

// drain waits until every stream has worked off what came before: a write of
// the control plane that was acknowledged is behind it in the queue.
func (j *judge) drain(t *testing.T) {
	t.Helper()
	if _, err := j.f.store.PutManifest(timeout(t), canaryID, []byte("x"), kv.Any); err != nil {
		t.Fatal(err)
	}
	time.Sleep(settleTime)
	// What the servers have sent by now is handled.
	for who, nc := range map[string]*nats.Conn{"victim": j.victim.nc, "control plane": j.f.api} {
		if err := nc.FlushTimeout(patience); err != nil {
			t.Errorf("the %s's connection: %v", who, err)
			continue
		}
		handled := make(chan struct{})
		if err := nc.Barrier(func() { close(handled) }); err != nil {
			t.Errorf("the %s's subscriptions: %v", who, err)
			continue
		}
		select {
		case <-handled:
		case <-timeout(t).Done():
			t.Errorf("the %s does not handle what it got", who)
		}
	}
}

// settleTime is for what crosses accounts and queues without an answer.
const settleTime = 20 * time.Millisecond

func union(a, b map[string]string) map[string]bool {
	u := map[string]bool{}
	for _, m := range []map[string]string{a, b} {
		for k := range m {
			u[k] = true
		}
	}
	return u
}
