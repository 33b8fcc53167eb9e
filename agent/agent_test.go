package agent_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent"
	"github.com/nationtech/fleetctl/agent/link"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/wire"
)

// engine is an agent.Engine that runs everything at once and remembers what it
// was told.
type engine struct {
	mu      sync.Mutex
	sets    int
	states  []wire.DesiredState
	keep    []string
	padding string // of each message
	changed chan struct{}
	slow    func() // what States does first; nil: nothing
}

func newEngine() *engine { return &engine{changed: make(chan struct{}, 1)} }

func (e *engine) Set(states []wire.DesiredState, keep []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sets++
	e.states, e.keep = states, keep
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *engine) States() []wire.DeploymentState {
	e.mu.Lock()
	slow := e.slow
	e.mu.Unlock()
	if slow != nil {
		slow()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []wire.DeploymentState
	for _, s := range e.states {
		out = append(out, wire.DeploymentState{
			Name: s.Deployment, UID: s.UID, Generation: s.Generation, Phase: wire.PhaseRunning, Message: e.padding,
			Services: []wire.ServiceState{{Name: "s", Phase: wire.PhaseRunning}},
		})
	}
	for _, name := range e.keep {
		out = append(out, wire.DeploymentState{Name: name, Phase: wire.PhaseFailed})
	}
	return out
}

func (e *engine) Reconcile(context.Context) error         { return nil }
func (e *engine) Changed() <-chan struct{}                { return e.changed }
func (e *engine) Again() <-chan struct{}                  { return nil }
func (e *engine) Version(context.Context) (string, error) { return "5.4.2", nil }
func (e *engine) Wait()                                   {}

func (e *engine) told() (sets int, names []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.states {
		names = append(names, fmt.Sprintf("%s@%d", s.Deployment, s.Generation))
	}
	slices.Sort(names)
	return e.sets, names
}

// nobody is a supervisor that does not watch.
type nobody struct{ ready chan struct{} }

func (n nobody) Ready()                        { close(n.ready) }
func (nobody) Stopping()                       {}
func (nobody) Status(string)                   {}
func (nobody) Alive()                          {}
func (nobody) WatchdogInterval() time.Duration { return 0 }

// source is a credential that a test can change.
type source struct {
	mu       sync.Mutex
	password string
}

func (s *source) set(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.password = password
}

func (s *source) Credential(context.Context) (credential.Credential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.password == "" {
		return credential.Credential{}, errors.New("no credential in this test yet")
	}
	return credential.Credential{User: deviceID, Password: credential.Secret(s.password)}, nil
}

// running is an agent under test.
type running struct {
	other     agent.Engine           // instead of engine
	identity  credential.Source      // instead of source
	keys      func() ([]byte, error) // instead of the fleet's key
	fleetTime func() time.Time
	engine    *engine
	source    *source
	metrics   net.Listener // optional
	ready     chan struct{}
	stop      func()
}

// run starts an agent of the fleet that keeps its state in dir, until the test
// ends or stop is called.
func (f *fleet) run(dir string) *running {
	f.t.Helper()
	r := &running{engine: newEngine(), source: &source{}, ready: make(chan struct{})}
	r.source.set(callout.PSK(f.psk, deviceID))
	f.runAs(dir, r)
	return r
}

// runMeasured runs an agent that a monitoring system asks at l.
func (f *fleet) runMeasured(dir string, l net.Listener) *running {
	f.t.Helper()
	r := &running{engine: newEngine(), source: &source{}, metrics: l, ready: make(chan struct{})}
	r.source.set(callout.PSK(f.psk, deviceID))
	f.runAs(dir, r)
	return r
}

// runWith runs an agent on another engine than the tests' own.
func (f *fleet) runWith(dir string, engine agent.Engine) {
	f.t.Helper()
	r := &running{other: engine, source: &source{}, ready: make(chan struct{})}
	r.source.set(callout.PSK(f.psk, deviceID))
	f.runAs(dir, r)
}

func (f *fleet) runAs(dir string, r *running) {
	f.t.Helper()
	log := slog.New(slog.NewTextHandler(f.t.Output(), nil))
	engine := agent.Engine(r.engine)
	if r.other != nil {
		engine = r.other
	}
	source := credential.Source(r.source)
	if r.identity != nil {
		source = r.identity
	}
	a, err := agent.New(agent.Config{
		Device: deviceID, Version: "test", StateDir: dir, Labels: map[string]string{"site": "lyon"}, MachineID: strings.Repeat("ab", 16),
		Engine: engine, EngineName: "podman",
		Keys: func() ([]byte, error) {
			if r.keys != nil {
				return r.keys()
			}
			return f.pinned()
		},
		Connect: func(ctx context.Context, connected func()) (agent.Link, error) {
			return link.Open(ctx, link.Config{Device: deviceID, URLs: []string{f.url()}, Roots: f.ca.Pool(), Source: source, Log: log, Connected: connected})
		},
		Inventory:  func() wire.Inventory { return wire.Inventory{Hostname: "box"} },
		Supervisor: nobody{r.ready}, Log: log, FleetTime: r.fleetTime, Metrics: r.metrics,
		Timing: agent.Timing{Tick: time.Second, Look: time.Second, Heartbeat: 100 * time.Millisecond, State: time.Minute, Info: time.Minute},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				f.t.Errorf("run: %v", err)
			}
		case <-time.After(patience):
			f.t.Error("the agent does not stop")
		}
	})
	f.t.Cleanup(r.stop)
}

// web is a service for tests in which nothing runs.
var web = wire.Service{Name: "s", Image: "example.com/web:v1"}

func TestFollowsTheManifest(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	r := f.run(t.TempDir())
	f.deploy("web", 1, web)
	f.deploy("db", 1, web)
	f.await("both", func(s wire.DeviceState) bool {
		return phase("web", 1, wire.PhaseRunning)(s) && phase("db", 1, wire.PhaseRunning)(s)
	})
	f.deploy("web", 2, web)
	s := f.await("second generation", phase("web", 2, wire.PhaseRunning))
	if s.Revision != 3 || s.Error != "" || s.Deployments[0].Since.IsZero() {
		t.Errorf("report: %+v", s)
	}
	f.remove("db")
	f.await("removed", gone("db"))
	if _, names := r.engine.told(); !slices.Equal(names, []string{"web@2"}) {
		t.Errorf("the engine was told %v", names)
	}
	f.await("info and a heartbeat", func(wire.DeviceState) bool { // they come by themselves
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.info.MachineID != "" && f.beats > 0
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.info.Labels["site"] != "lyon" || f.info.Inventory.PodmanVersion != "5.4.2" || f.info.Inventory.AgentVersion != "test" {
		t.Errorf("info: %+v", f.info)
	}
}

// Whatever a broker that lies puts into the bucket, what runs stays.
func TestRefusesManifests(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	r := f.run(t.TempDir())
	f.deploy("web", 1, web)
	f.deploy("web", 2, web)
	f.await("running", phase("web", 2, wire.PhaseRunning))
	sets, _ := r.engine.told()

	_, otherKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	empty := func(device string, revision uint64) wire.Manifest {
		return wire.Manifest{SchemaVersion: 1, Device: device, Revision: revision}
	}
	seal := func(kind wire.Kind, m wire.Manifest, key ed25519.PrivateKey) []byte {
		return must(wire.Seal(kind, m, key))(t)
	}
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"no envelope":          {[]byte("{}"), "not signed"},
		"no JSON":              {[]byte("x"), "not signed"},
		"nothing":              {nil, "not signed"},
		"another key":          {seal(wire.KindManifest, empty(deviceID, 99), otherKey), "not pinned"},
		"another kind":         {seal(wire.KindCommand, empty(deviceID, 99), f.key), "does not match"},
		"another device":       {seal(wire.KindManifest, empty("pi-2", 99), f.key), `"pi-2"`},
		"an older revision":    {seal(wire.KindManifest, empty(deviceID, 1), f.key), "older"},
		"no revision":          {seal(wire.KindManifest, empty(deviceID, 0), f.key), "no revision"},
		"a key with wildcards": {seal(wire.KindManifest, wire.Manifest{Device: deviceID, Revision: 99, Deployments: []wire.ManifestEntry{{Name: "*", SHA256: wire.Hash(nil)}}}, f.key), "deployment name"},
	} {
		t.Run(name, func(t *testing.T) {
			f.putManifest(tc.data)
			s := f.await("the refusal", func(s wire.DeviceState) bool { return strings.Contains(s.Error, tc.want) })
			if !phase("web", 2, wire.PhaseRunning)(s) || s.Revision != 2 {
				t.Errorf("what runs changed: %+v", s)
			}
		})
	}
	if after, names := r.engine.told(); after != sets || !slices.Equal(names, []string{"web@2"}) {
		t.Errorf("the engine was told something: %v", names)
	}
	f.deploy("web", 3, web)
	f.await("a good one after the bad ones", func(s wire.DeviceState) bool {
		return phase("web", 3, wire.PhaseRunning)(s) && s.Error == ""
	})
}

// A desired state that is not the one that was signed is not used; its
// predecessor stays in force, and other deployments go on.
func TestRefusesStatesThatWereNotSigned(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	r := f.run(t.TempDir())
	f.deploy("web", 1, web)
	f.await("running", phase("web", 1, wire.PhaseRunning))

	good := f.desired["web"]
	f.desired["web"] = []byte(strings.Replace(string(good), `"generation":1`, `"generation":2`, 1))
	f.publish()
	f.await("second generation", phase("web", 2, wire.PhaseRunning))

	// The broker changes it after the fact, and drops another one.
	evil := strings.Replace(string(good), "example.com/web", "example.com/evil", 1)
	f.desired["web"] = []byte(strings.Replace(string(good), `"generation":1`, `"generation":3`, 1))
	f.desired["db"] = []byte(strings.ReplaceAll(string(good), `"web"`, `"db"`))
	f.desired["other"] = f.desired["db"] // signed, and about another deployment
	f.publish()
	f.await("third generation", phase("web", 3, wire.PhaseRunning))
	if _, err := f.store.PutDesired(t.Context(), deviceID, "web", []byte(evil), kv.Any); err != nil {
		t.Fatal(err)
	}
	f.revision++
	m := wire.Manifest{SchemaVersion: 1, Device: deviceID, Revision: f.revision, Deployments: []wire.ManifestEntry{
		{Name: "web", SHA256: wire.Hash([]byte("generation 4"))},
		{Name: "db", SHA256: wire.Hash(f.desired["db"])},
		{Name: "other", SHA256: wire.Hash(f.desired["other"])},
		{Name: "lost", SHA256: wire.Hash([]byte("lost"))},
	}}
	f.putManifest(must(wire.Seal(wire.KindManifest, m, f.key))(t))
	s := f.await("both problems", func(s wire.DeviceState) bool {
		return s.Revision == f.revision && strings.Contains(s.Error, "deployment web: its desired state is not what the manifest names") && strings.Contains(s.Error, "deployment lost:")
	})
	if !phase("web", 3, wire.PhaseRunning)(s) || !phase("db", 1, wire.PhaseRunning)(s) {
		t.Errorf("what could be used is not: %+v", s.Deployments)
	}
	if !phase("lost", 0, wire.PhaseFailed)(s) || !phase("other", 0, wire.PhaseFailed)(s) {
		t.Errorf("what could not be used is not reported: %+v", s.Deployments)
	}
	r.engine.mu.Lock()
	defer r.engine.mu.Unlock()
	for _, d := range r.engine.states {
		if strings.Contains(string(d.Score.Data), "evil") {
			t.Error("the engine was given what nobody signed")
		}
	}
}

// Wiping JetStream, and a control plane that is away, change nothing on the
// device; what it knows is back in the buckets soon after.
func TestWipedAndRestartedBroker(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	dir := t.TempDir()
	r := f.run(dir)
	f.deploy("web", 1, web)
	f.await("running", phase("web", 1, wire.PhaseRunning))
	sets, _ := r.engine.told()

	f.mu.Lock()
	f.state = wire.DeviceState{}
	f.mu.Unlock()
	f.wipe()
	f.await("the state after the wipe", phase("web", 1, wire.PhaseRunning))
	if now, names := r.engine.told(); now != sets || !slices.Equal(names, []string{"web@1"}) {
		t.Errorf("the wipe reached the engine: %v", names)
	}

	// An agent that starts now has its disk, and no manifest to ask for.
	r.stop()
	f.stop()
	r = f.run(dir)
	select {
	case <-r.ready:
	case <-time.After(patience):
		t.Fatal("not ready without a network")
	}
	if _, names := r.engine.told(); !slices.Equal(names, []string{"web@1"}) {
		t.Errorf("from disk the engine was told %v", names)
	}
	f.start()
	f.await("the state after the restart", func(s wire.DeviceState) bool {
		return phase("web", 1, wire.PhaseRunning)(s) && s.Revision == 1
	})
}

// An outage that was over before the agent noticed is one: what the control plane
// knew may be gone.
func TestWipedUnnoticed(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	r := f.run(t.TempDir())
	f.deploy("web", 1, web)
	f.await("running", phase("web", 1, wire.PhaseRunning))

	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.engine.mu.Lock()
	r.engine.slow = func() {
		once.Do(func() { close(asked) })
		<-answer
	}
	r.engine.mu.Unlock()
	select {
	case r.engine.changed <- struct{}{}:
	default:
	}
	<-asked
	f.mu.Lock()
	f.state, f.info = wire.DeviceState{}, wire.DeviceInfo{}
	f.mu.Unlock()
	f.wipe()
	f.await("connected again", func(wire.DeviceState) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.info.Device == deviceID
	})
	close(answer)
	f.await("the state after the wipe", phase("web", 1, wire.PhaseRunning))
}

// A device that was never given a manifest leaves its containers alone.
func TestNoManifestSetsNothing(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	r := f.run(t.TempDir())
	f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })
	if sets, _ := r.engine.told(); sets != 0 {
		t.Error("the engine was told to run nothing, though nobody said so")
	}
}

// A credential that is refused, or cannot be had, is tried again with a fresh
// one.
func TestFreshCredentialAtEachConnect(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	r := &running{engine: newEngine(), source: &source{}, ready: make(chan struct{})}
	f.runAs(t.TempDir(), r)
	<-r.ready
	r.source.set("wrong")
	time.AfterFunc(time.Second, func() { r.source.set(callout.PSK(f.psk, deviceID)) })
	f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })
}

// A report that would not fit its bucket is shortened, and says so.
func TestLongReportIsShortened(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	r := f.run(t.TempDir())
	r.engine.mu.Lock()
	r.engine.padding = strings.Repeat("x", wire.MaxMessageBytes)
	r.engine.mu.Unlock()
	for i := range 70 {
		name := fmt.Sprintf("web-%02d", i)
		f.desired[name] = []byte(fmt.Sprintf(`{"schemaVersion":1,"deployment":%q,"uid":"u","generation":1,"score":{"type":"PodmanV0","data":{}}}`, name))
	}
	f.publish()
	s := f.await("a report", func(s wire.DeviceState) bool { return s.Revision == 1 && len(s.Deployments) > 0 })
	if len(s.Deployments) < 20 || !strings.Contains(s.Error, "shortened") {
		t.Errorf("%d deployments, error %q", len(s.Deployments), s.Error)
	}
}
