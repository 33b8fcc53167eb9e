package agent_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
)

// liar is a broker with a real fleet behind it: it has everything that the
// control plane ever wrote, and gives a device what it likes.
type liar struct {
	*fleet
	device  *running
	history []record
}

// record is what the bucket had for the device at one time.
type record struct {
	manifest []byte
	states   map[string][]byte
}

// tells is the truth: web in a new generation, beside db.
func (l *liar) tells(generation int64) {
	l.t.Helper()
	if _, there := l.desired["db"]; !there {
		l.desired["db"] = must(json.Marshal(wire.DesiredState{SchemaVersion: 1, Deployment: "db", Namespace: "default", UID: "uid-db", Generation: 1,
			Score: wire.Score{Type: wire.ScorePodmanV0, Data: must(json.Marshal(wire.PodmanV0{Services: []wire.Service{web}}))(l.t)}}))(l.t)
	}
	l.deploy("web", generation, web)
	r := record{states: map[string][]byte{}}
	r.manifest = must(l.store.Get(l.t.Context(), wire.BucketDesired, wire.ManifestKey(deviceID)))(l.t).Data
	for name, data := range l.desired {
		r.states[name] = data
	}
	l.history = append(l.history, r)
}

// puts gives the device a manifest beside states.
func (l *liar) puts(manifest []byte, states map[string][]byte) {
	l.t.Helper()
	for name, data := range states {
		if _, err := l.store.PutDesired(l.t.Context(), deviceID, name, data, kv.Any); err != nil {
			l.t.Fatal(err)
		}
	}
	l.putManifest(manifest)
}

// edited is an envelope with a part of its payload replaced.
func edited(t *testing.T, sealed []byte, old, with string) []byte {
	t.Helper()
	var e wire.Envelope
	if err := json.Unmarshal(sealed, &e); err != nil {
		t.Fatal(err)
	}
	payload := bytes.Replace(e.Payload, []byte(old), []byte(with), 1)
	if bytes.Equal(payload, e.Payload) {
		t.Fatalf("%s has no %q", e.Payload, old)
	}
	e.Payload = payload
	return must(json.Marshal(e))(t)
}

// TestLyingBroker: whatever a broker makes of what it was given, the device
// keeps running what it had, says why, and goes on when it hears the truth.
func TestLyingBroker(t *testing.T) {
	l := &liar{fleet: newFleet(t, "127.0.0.1")}
	dir := t.TempDir()
	l.device = l.run(dir)
	generation := int64(0)
	truth := func() record {
		generation++
		l.tells(generation)
		want := generation
		l.await("the truth", func(s wire.DeviceState) bool {
			return phase("web", want, wire.PhaseRunning)(s) && phase("db", 1, wire.PhaseRunning)(s) && s.Error == "" && s.Refusal == ""
		})
		return l.history[len(l.history)-1]
	}
	truth()
	truth()
	truth()

	// Another device's manifest is as well signed as this one's.
	l.revision++
	others := must(l.Seal(wire.KindManifest, wire.Manifest{SchemaVersion: 1, Device: "pi-2", Revision: l.revision}))(t)
	omitted := func(r record) []byte { // web is no more, by the broker's own hand
		var m wire.Manifest
		var e wire.Envelope
		if json.Unmarshal(r.manifest, &e) != nil || json.Unmarshal(e.Payload, &m) != nil {
			t.Fatal("no manifest")
		}
		m.Deployments = slices.DeleteFunc(m.Deployments, func(e wire.ManifestEntry) bool { return e.Name == "web" })
		e.Payload = must(json.Marshal(m))(t)
		return must(json.Marshal(e))(t)
	}
	for _, lie := range []struct {
		name string
		do   func(now record)
		want wire.Refusal
	}{
		{"the first manifest again", func(record) { l.puts(l.history[0].manifest, l.history[0].states) }, wire.RefusedRevision},
		{"the one before again, with what is deployed now", func(now record) { l.puts(l.history[len(l.history)-2].manifest, now.states) }, wire.RefusedRevision},
		{"revisions in another order", func(now record) {
			for _, i := range []int{2, 0, 1} {
				l.puts(l.history[i].manifest, nil)
			}
		}, wire.RefusedRevision},
		{"cut in the middle", func(now record) { l.puts(now.manifest[:len(now.manifest)/2], nil) }, wire.RefusedUnsigned},
		{"empty", func(record) { l.puts([]byte{}, nil) }, wire.RefusedUnsigned},
		{"an entry left out", func(now record) { l.puts(omitted(now), nil) }, wire.RefusedSignature},
		{"a revision edited", func(now record) { l.puts(edited(t, now.manifest, `"revision":`, `"revision":9`), nil) }, wire.RefusedSignature},
		{"a hash edited", func(now record) {
			h := wire.Hash(now.states["web"])
			l.puts(edited(t, now.manifest, h, wire.Hash([]byte("evil"))), map[string][]byte{"web": []byte("evil")})
		}, wire.RefusedSignature},
		{"a signature cut", func(now record) {
			var e wire.Envelope
			_ = json.Unmarshal(now.manifest, &e)
			e.Signature = e.Signature[:len(e.Signature)-1]
			l.puts(must(json.Marshal(e))(t), nil)
		}, wire.RefusedSignature},
		{"another device's", func(record) { l.puts(others, nil) }, wire.RefusedDevice},
		{"a command as a manifest", func(record) {
			l.puts(must(l.Seal(wire.KindCommand, wire.Manifest{SchemaVersion: 1, Device: deviceID, Revision: 1 << 60}))(t), nil)
		}, wire.RefusedSignature},
	} {
		t.Run(lie.name, func(t *testing.T) {
			now := l.history[len(l.history)-1]
			sets, before := l.device.engine.told()
			lie.do(now)
			s := l.await("the refusal", func(s wire.DeviceState) bool { return s.Refusal == lie.want && s.Error != "" })
			if !phase("web", generation, wire.PhaseRunning)(s) || !phase("db", 1, wire.PhaseRunning)(s) {
				t.Errorf("what runs changed: %+v", s.Deployments)
			}
			if after, names := l.device.engine.told(); after != sets || !slices.Equal(names, before) {
				t.Errorf("the engine was told %v, before %v", names, before)
			}
			truth()
		})
	}

	// A manifest that is true, and states that are not: those that were there
	// stay, and the others go on.
	for _, lie := range []struct {
		name string
		do   func(next []byte)
		want wire.Refusal
	}{
		{"a state edited", func(next []byte) {
			_, _ = l.store.PutDesired(t.Context(), deviceID, "web", bytes.Replace(next, []byte("example.com/web"), []byte("example.com/evil"), 1), kv.Any)
		}, wire.RefusedContent},
		{"a state from before", func([]byte) {
			_, _ = l.store.PutDesired(t.Context(), deviceID, "web", l.history[0].states["web"], kv.Any)
		}, wire.RefusedContent},
		{"a state cut", func(next []byte) { _, _ = l.store.PutDesired(t.Context(), deviceID, "web", next[:len(next)/2], kv.Any) }, wire.RefusedContent},
		{"a state deleted", func([]byte) { _ = l.store.Delete(t.Context(), deviceID, "web", kv.Any) }, wire.RefusedMissing},
		{"another deployment's state", func([]byte) { _, _ = l.store.PutDesired(t.Context(), deviceID, "web", l.desired["db"], kv.Any) }, wire.RefusedContent},
	} {
		t.Run(lie.name, func(t *testing.T) {
			next := bytes.Replace(l.desired["web"], []byte(`"generation":`), []byte(`"generation":1000`), 1)
			l.revision++
			m := wire.Manifest{SchemaVersion: 1, Device: deviceID, Revision: l.revision, Deployments: []wire.ManifestEntry{
				{Name: "db", SHA256: wire.Hash(l.desired["db"])}, {Name: "web", SHA256: wire.Hash(next)}}}
			lie.do(next)
			l.putManifest(must(l.Seal(wire.KindManifest, m))(t))
			s := l.await("the refusal", func(s wire.DeviceState) bool { return s.Refusal == lie.want })
			if !phase("web", generation, wire.PhaseRunning)(s) || !phase("db", 1, wire.PhaseRunning)(s) || !strings.Contains(s.Error, "web") {
				t.Errorf("what runs changed: %+v", s)
			}
			truth()
		})
	}

	t.Run("everything deleted", func(t *testing.T) {
		if err := l.store.ForgetDevice(t.Context(), deviceID); err != nil {
			t.Fatal(err)
		}
		if err := l.api.Publish(wire.HintSubject(deviceID), nil); err != nil {
			t.Fatal(err)
		}
		// Also for an agent that starts then, and has its disk alone.
		l.device.stop()
		l.device = l.run(dir)
		<-l.device.ready
		l.await("what it had", phase("web", generation, wire.PhaseRunning))
		truth()
	})
	l.device.engine.mu.Lock()
	defer l.device.engine.mu.Unlock()
	for _, d := range l.device.engine.states {
		if strings.Contains(string(d.Score.Data), "evil") {
			t.Error("the engine was given what nobody signed")
		}
	}
}

// TestLyingBrokerAboutCommands: a command that was heard once is of no use to
// who heard it.
func TestLyingBrokerAboutCommands(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	f.run(t.TempDir())
	f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })
	command := func(device string, expires time.Duration) (nonce string, sealed []byte) {
		c := wire.Command{SchemaVersion: 1, Device: device, Verb: wire.VerbPing, Nonce: rand.Text(), Expires: time.Now().Add(expires), Body: json.RawMessage(`{"a":1}`)}
		return c.Nonce, must(f.Seal(wire.KindCommand, c))(t)
	}
	const silence = 300 * time.Millisecond
	obeys := func(t *testing.T) (string, []byte) {
		t.Helper()
		nonce, sealed := command(deviceID, time.Minute)
		if reply, ok := f.ask("ping", nonce, sealed, patience); !ok || reply.Error != nil {
			t.Fatalf("a good command: answered %v, %+v", ok, reply.Error)
		}
		return nonce, sealed
	}
	fresh := "nonce-of-the-broker-1"
	for name, lie := range map[string]func(t *testing.T) (nonce string, sealed []byte){
		"heard, and told again": obeys,
		"with another nonce": func(t *testing.T) (string, []byte) {
			nonce, sealed := obeys(t)
			return fresh, edited(t, sealed, nonce, fresh)
		},
		"with another body": func(t *testing.T) (string, []byte) {
			nonce, sealed := command(deviceID, time.Minute)
			return nonce, edited(t, sealed, `{"a":1}`, `{"a":2}`)
		},
		"with another verb": func(t *testing.T) (string, []byte) {
			nonce, sealed := command(deviceID, time.Minute)
			return nonce, edited(t, sealed, `"verb":"ping"`, `"verb":"exec"`)
		},
		"kept until it expired, its expiry edited": func(t *testing.T) (string, []byte) {
			nonce, sealed := command(deviceID, -time.Minute)
			return nonce, edited(t, sealed, `"expires":"20`, `"expires":"30`)
		},
		"another device's": func(*testing.T) (string, []byte) { return command("pi-2", time.Minute) },
		"another device's, its name edited": func(t *testing.T) (string, []byte) {
			nonce, sealed := command("pi-2", time.Minute)
			return nonce, edited(t, sealed, "pi-2", deviceID)
		},
		"cut": func(*testing.T) (string, []byte) {
			nonce, sealed := command(deviceID, time.Minute)
			return nonce, sealed[:len(sealed)-10]
		},
		"a manifest as a command": func(t *testing.T) (string, []byte) {
			return fresh, must(f.Seal(wire.KindManifest, wire.Command{SchemaVersion: 1, Device: deviceID, Verb: wire.VerbPing, Nonce: fresh, Expires: time.Now().Add(time.Minute)}))(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			nonce, sealed := lie(t)
			if reply, ok := f.ask("ping", nonce, sealed, silence); ok {
				t.Errorf("answered: %+v", reply)
			}
			obeys(t)
		})
	}
	t.Run("kept until it expired", func(t *testing.T) {
		nonce, sealed := command(deviceID, -time.Second)
		if reply, ok := f.ask("ping", nonce, sealed, patience); !ok || reply.Error == nil || reply.Error.Code != wire.ReplyRefused {
			t.Errorf("answered %v: %+v", ok, reply.Error)
		}
		obeys(t)
	})
}
