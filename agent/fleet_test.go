package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	deviceID = "pi-1"
	patience = 40 * time.Second // for what has to happen, on a busy machine
)

// fleet is a control plane as far as an agent can tell: the real broker with
// its accounts and its callout, and a signing key.
type fleet struct {
	t      testing.TB
	host   string
	dir    string
	port   int
	ca     *pki.CA
	key    ed25519.PrivateKey
	signer *signing.Signer // instead of key
	psk    []byte
	issuer *issuertest.Issuer // nil: devices have passwords
	tokens *verify.Verifier   // outlives the broker
	broker *broker.Broker
	store  *kv.Store
	api    *nats.Conn
	end    func() // of what start began

	revision uint64
	desired  map[string][]byte

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when a report arrives
	state   wire.DeviceState
	info    wire.DeviceInfo
	beats   int
}

// newFleet starts one that listens on host, an address without a port.
func newFleet(t testing.TB, host string) *fleet {
	t.Helper()
	return newFleetOf(t, host, nil)
}

// newFleetOf is one whose devices have tokens of an issuer.
func newFleetOf(t testing.TB, host string, issuer *issuertest.Issuer) *fleet {
	t.Helper()
	ca, err := pki.Open(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{
		t: t, host: host, dir: filepath.Join(t.TempDir(), "nats"), ca: ca, key: key, psk: make([]byte, 32), issuer: issuer,
		desired: map[string][]byte{}, changed: make(chan struct{}),
	}
	if issuer != nil {
		f.tokens = issuer.Verifier(t.Context())
	}
	f.start()
	t.Cleanup(f.stop)
	return f
}

// start runs the broker, after the first time on the same port.
func (f *fleet) start() {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(f.t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	cert := must(f.ca.ServerCert("nats", []string{f.host}))(f.t)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		var err error
		if f.broker, err = broker.Start(ctx, broker.Config{
			DataDir: f.dir, Listen: net.JoinHostPort(f.host, strconv.Itoa(f.port)), TLS: cert.TLSConfig(), Devices: 10, Log: log,
		}); err == nil {
			break
		}
		// For a moment a connection of another test may go out from the port.
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			f.t.Fatal(err)
		}
	}
	f.port = f.broker.Port()
	cfg := callout.Config{Conn: must(f.broker.ConnectCallout())(f.t), FleetKey: f.psk, DevicePrefix: "device-", Log: log}
	cfg.Issuer, cfg.XKey = f.broker.CalloutKeys()
	if f.issuer != nil {
		cfg.FleetKey, cfg.Tokens = nil, f.tokens
	}
	must(callout.Start(ctx, cfg))(f.t)
	f.store = must(kv.Open(must(f.broker.ConnectOperator())(f.t)))(f.t)
	f.api = must(f.broker.ConnectAPI())(f.t)
	watching, unwatch := context.WithCancel(ctx)
	var watches sync.WaitGroup
	f.end = func() {
		unwatch()
		watches.Wait() // what comes late counts for nothing that is awaited later
		cancel()
		f.broker.Close()
	}
	watches.Go(func() {
		_ = f.store.WatchStates(watching, kv.Handler[wire.DeviceState]{Update: func(u kv.Update[wire.DeviceState]) {
			f.note(u.Err, func() { f.state = u.Value })
		}})
	})
	watches.Go(func() {
		_ = f.store.WatchInfos(watching, kv.Handler[wire.DeviceInfo]{Update: func(u kv.Update[wire.DeviceInfo]) {
			f.note(u.Err, func() { f.info = u.Value })
		}})
	})
	watches.Go(func() {
		_ = f.store.WatchHeartbeats(watching, kv.Handler[wire.Heartbeat]{Update: func(u kv.Update[wire.Heartbeat]) {
			f.note(u.Err, func() { f.beats++ })
		}})
	})
}

func (f *fleet) stop() { f.end() }

// wipe loses everything that JetStream has.
func (f *fleet) wipe() {
	f.t.Helper()
	f.stop()
	f.dir = filepath.Join(f.t.TempDir(), "nats")
	f.start()
}

func (f *fleet) url() string {
	return "tls://" + net.JoinHostPort(f.host, strconv.Itoa(f.port))
}

func (f *fleet) note(err error, store func()) {
	if err != nil {
		f.t.Errorf("a report that the control plane cannot use: %v", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	store()
	close(f.changed)
	f.changed = make(chan struct{})
}

// await waits until what the device reported satisfies ok, and returns it.
func (f *fleet) await(what string, ok func(wire.DeviceState) bool) wire.DeviceState {
	f.t.Helper()
	return f.awaitFor(patience, what, ok)
}

func (f *fleet) awaitFor(d time.Duration, what string, ok func(wire.DeviceState) bool) wire.DeviceState {
	f.t.Helper()
	deadline := time.After(d)
	for {
		f.mu.Lock()
		state, changed := f.state, f.changed
		f.mu.Unlock()
		if ok(state) {
			return state
		}
		select {
		case <-changed:
		case <-deadline:
			last, _ := json.MarshalIndent(state, "", "  ")
			f.t.Fatalf("%s: not reported within %s; the last report:\n%s", what, d, last)
		}
	}
}

// deploy sets one deployment and hands out a new manifest.
func (f *fleet) deploy(name string, generation int64, services ...wire.Service) {
	f.t.Helper()
	data := must(json.Marshal(wire.PodmanV0{Services: services}))(f.t)
	f.deployScore(name, generation, wire.Score{Type: wire.ScorePodmanV0, Data: data})
}

func (f *fleet) deployScore(name string, generation int64, score wire.Score) {
	f.t.Helper()
	f.desired[name] = must(json.Marshal(wire.DesiredState{
		SchemaVersion: 1, Deployment: name, Namespace: "default", UID: "uid-" + name, Generation: generation, Score: score,
	}))(f.t)
	f.publish()
}

// remove takes a deployment out of the manifest, and then its key away.
func (f *fleet) remove(name string) {
	f.t.Helper()
	delete(f.desired, name)
	f.publish()
	if err := f.store.Delete(f.t.Context(), deviceID, name, kv.Any); err != nil {
		f.t.Fatal(err)
	}
}

// publish writes everything that is desired, the manifest last.
func (f *fleet) publish() {
	f.t.Helper()
	f.revision++
	m := wire.Manifest{SchemaVersion: 1, Device: deviceID, Revision: f.revision}
	for name, data := range f.desired {
		if _, err := f.store.PutDesired(f.t.Context(), deviceID, name, data, kv.Any); err != nil {
			f.t.Fatal(err)
		}
		m.Deployments = append(m.Deployments, wire.ManifestEntry{Name: name, SHA256: wire.Hash(data)})
	}
	f.putManifest(must(f.Seal(wire.KindManifest, m))(f.t))
}

// Seal signs as the control plane.
func (f *fleet) Seal(kind wire.Kind, v any) ([]byte, error) {
	if f.signer != nil {
		return f.signer.Seal(kind, v)
	}
	return wire.Seal(kind, v, f.key)
}

// pinned is the file of keys that a device has from onboarding.
func (f *fleet) pinned() ([]byte, error) {
	return json.Marshal(wire.PinnedKeys{SchemaVersion: 1, Keys: []ed25519.PublicKey{f.key.Public().(ed25519.PublicKey)}})
}

func (f *fleet) putManifest(sealed []byte) {
	f.t.Helper()
	if _, err := f.store.PutManifest(f.t.Context(), deviceID, sealed, kv.Any); err != nil {
		f.t.Fatal(err)
	}
}

// phase says whether the device reports the deployment in that phase, for that
// generation.
func phase(name string, generation int64, want wire.Phase) func(wire.DeviceState) bool {
	return func(s wire.DeviceState) bool {
		for _, d := range s.Deployments {
			if d.Name == name {
				return d.Phase == want && d.Generation == generation
			}
		}
		return false
	}
}

// gone says whether the device no longer reports the deployment.
func gone(name string) func(wire.DeviceState) bool {
	return func(s wire.DeviceState) bool {
		for _, d := range s.Deployments {
			if d.Name == name {
				return false
			}
		}
		return !s.At.IsZero()
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
