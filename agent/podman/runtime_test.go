package podman

import (
	"encoding/json"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

func desired(t *testing.T, name string, generation int64, services ...wire.Service) wire.DesiredState {
	t.Helper()
	data, err := json.Marshal(wire.PodmanV0{Services: services})
	if err != nil {
		t.Fatal(err)
	}
	return wire.DesiredState{
		SchemaVersion: 1, Deployment: name, UID: "uid-" + name, Generation: generation,
		Score: wire.Score{Type: wire.ScorePodmanV0, Data: data},
	}
}

func service(name, image string) wire.Service { return wire.Service{Name: name, Image: image} }

func all(name string, phase wire.Phase) func(map[string]wire.DeploymentState) bool {
	return func(s map[string]wire.DeploymentState) bool { return s[name].Phase == phase }
}

// A new generation may mean another image, whatever its specification: until it
// was looked at, nobody is told that it runs.
func TestRunningIsOfTheGeneration(t *testing.T) {
	f := newFake(t)
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a")))
	f.await(r, "running", all("web", wire.PhaseRunning))
	f.settle(r)
	f.passes.Lock()
	r.Set([]wire.DesiredState{desired(t, "web", 2, service("a", "x/a"))}, nil)
	got := r.States()[0]
	f.passes.Unlock()
	if got.Phase != wire.PhasePending || got.Generation != 2 {
		t.Errorf("before a look: %s, generation %d", got.Phase, got.Generation)
	}
	before := len(f.changes())
	if err := f.pass(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.await(r, "running", all("web", wire.PhaseRunning))
	if got := f.changes()[before:]; len(got) > 0 {
		t.Errorf("nothing to do, and yet: %v", got)
	}
}

func TestCreatesReplacesRemoves(t *testing.T) {
	f := newFake(t)
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a"), service("b", "x/b")))
	f.await(r, "running", all("web", wire.PhaseRunning))

	before := len(f.changes())
	f.apply(r, desired(t, "web", 2, service("a", "x/a"), service("b", "x/b:2")))
	states := f.await(r, "replaced", func(s map[string]wire.DeploymentState) bool {
		return s["web"].Phase == wire.PhaseRunning && s["web"].Generation == 2
	})
	want := []string{"stop fleet-web-b", "remove fleet-web-b", "create fleet-web-b", "start fleet-web-b"}
	if got := f.changes()[before:]; !slices.Equal(got, want) {
		t.Errorf("changes %v, want %v", got, want)
	}
	if image := states["web"].Services[1].Image; image != "docker.io/x/b:2" {
		t.Errorf("reported image %q", image)
	}

	before = len(f.changes())
	f.apply(r, desired(t, "web", 3, service("b", "x/b:2"), service("a", "x/a"))) // another order
	f.await(r, "settled", func(s map[string]wire.DeploymentState) bool {
		return s["web"].Phase == wire.PhaseRunning && s["web"].Generation == 3
	})
	f.settle(r)
	if got := f.changes()[before:]; len(got) > 0 {
		t.Errorf("nothing to do, and yet: %v", got)
	}

	f.apply(r)
	f.await(r, "gone", func(s map[string]wire.DeploymentState) bool { return len(s) == 0 })
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.containers) != 0 {
		t.Errorf("%d containers are left", len(f.containers))
	}
}

func TestNothingBeforeTheFirstSet(t *testing.T) {
	f := newFake(t)
	f.add("fleet-web-a", "running", map[string]string{labelManaged: "true", labelDeployment: "web", labelService: "a"})
	r := f.runtime()
	if err := f.pass(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.settle(r)
	if got := f.changes(); len(got) > 0 {
		t.Errorf("changes before anything is desired: %v", got)
	}
}

// What should be is not known: what is there stays.
func TestKeeps(t *testing.T) {
	f := newFake(t)
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a")), desired(t, "db", 1, service("a", "x/a")))
	f.await(r, "running", func(s map[string]wire.DeploymentState) bool {
		return s["web"].Phase == wire.PhaseRunning && s["db"].Phase == wire.PhaseRunning
	})
	before := len(f.changes())
	unknown := desired(t, "db", 2, service("a", "x/a"))
	unknown.Score.Type = "WasmV9"
	r.Set([]wire.DesiredState{unknown}, []string{"web"})
	if err := f.pass(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.settle(r)
	s := f.await(r, "reported", func(s map[string]wire.DeploymentState) bool {
		return s["web"].Phase == wire.PhaseFailed && s["db"].Phase == wire.PhaseFailed
	})
	if !strings.Contains(s["db"].Message, `"WasmV9"`) {
		t.Errorf("message %q", s["db"].Message)
	}
	if got := f.changes()[before:]; len(got) > 0 {
		t.Errorf("changes: %v", got)
	}
}

// Every mutating call of the fake fails the test for what is not ours.
func TestForeignContainersAreLeftAlone(t *testing.T) {
	f := newFake(t)
	f.add("fleet-web-a", "running", nil)
	f.add("fleet-x-y-z", "running", map[string]string{labelManaged: "true", labelDeployment: "x-y", labelService: "z"})
	f.add("half", "exited", map[string]string{labelManaged: "true"})
	f.add("other", "exited", map[string]string{labelDeployment: "web", labelService: "a"})
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a")), desired(t, "x", 1, service("y-z", "x/a")), desired(t, "x-y", 1, service("z", "x/a")))
	s := f.await(r, "web refused, and of the two with one name the second", func(s map[string]wire.DeploymentState) bool {
		one, two := s["x"].Phase, s["x-y"].Phase
		return s["web"].Phase == wire.PhaseFailed &&
			(one == wire.PhaseFailed && two == wire.PhaseRunning || two == wire.PhaseFailed && one == wire.PhaseRunning)
	})
	if !strings.Contains(s["web"].Message, "fleet-web-a") || !strings.Contains(s["web"].Message, "not managed") {
		t.Errorf("message %q", s["web"].Message)
	}
	for _, name := range []string{"fleet-web-a", "half", "other"} {
		if f.status(name) == "" {
			t.Errorf("%s is gone", name)
		}
	}
}

// A failed pull leaves the old container running, and holds up nobody.
func TestFailedPull(t *testing.T) {
	f := newFake(t)
	r := f.runtime("registry:5000")
	f.apply(r, desired(t, "web", 1, service("a", "registry:5000/a:1")))
	f.await(r, "running", all("web", wire.PhaseRunning))
	f.mu.Lock()
	f.pullFails["registry:5000/a:2"] = "manifest unknown"
	f.mu.Unlock()
	f.apply(r, desired(t, "web", 2, service("a", "registry:5000/a:2")), desired(t, "db", 1, service("a", "registry2:5000/b")))
	s := f.await(r, "both", func(s map[string]wire.DeploymentState) bool {
		return s["web"].Phase == wire.PhaseFailed && s["db"].Phase == wire.PhaseRunning
	})
	if !strings.Contains(s["web"].Message, "manifest unknown") {
		t.Errorf("message %q", s["web"].Message)
	}
	if f.status("fleet-web-a") != "running" {
		t.Error("the old container does not run any more")
	}
	f.mu.Lock()
	delete(f.pullFails, "registry:5000/a:2")
	f.mu.Unlock()
	f.await(r, "tried again", all("web", wire.PhaseRunning))
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, pull := range f.pulls {
		if strings.HasPrefix(pull, "registry:5000/") != strings.HasSuffix(pull, "?tlsVerify=false") {
			t.Errorf("pull %s", pull)
		}
	}
}

// A container that takes its time to stop holds up only its own service.
func TestSlowStop(t *testing.T) {
	f := newFake(t)
	r := f.runtime()
	var many []wire.DesiredState
	release := make(chan struct{})
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} { // more than there are places for steps
		many = append(many, desired(t, name, 1, service("s", "x/s")))
		f.hold["fleet-"+name+"-s"] = release
	}
	f.apply(r, many...)
	f.await(r, "running", func(s map[string]wire.DeploymentState) bool { return everyPhase(s, 6, wire.PhaseRunning) })
	f.apply(r)
	f.await(r, "removing", func(s map[string]wire.DeploymentState) bool { return everyPhase(s, 6, wire.PhaseRemoving) })
	f.apply(r, desired(t, "web", 1, service("a", "x/a")))
	f.await(r, "another one meanwhile", all("web", wire.PhaseRunning))
	close(release)
	f.await(r, "gone", func(s map[string]wire.DeploymentState) bool { return len(s) == 1 })
}

func everyPhase(s map[string]wire.DeploymentState, n int, phase wire.Phase) bool {
	for _, d := range s {
		if d.Phase != phase {
			return false
		}
	}
	return len(s) == n
}

// What changes while a service is being worked on is not lost.
func TestChangedWhileBusy(t *testing.T) {
	f := newFake(t)
	r := f.runtime()
	release := make(chan struct{})
	f.hold["fleet-web-a"] = release
	f.apply(r, desired(t, "web", 1, service("a", "x/a:1")))
	f.await(r, "running", all("web", wire.PhaseRunning))
	f.apply(r, desired(t, "web", 2, service("a", "x/a:2")))
	f.await(r, "being replaced", all("web", wire.PhasePending))
	f.apply(r, desired(t, "web", 3, service("a", "x/a:3")))
	close(release)
	s := f.await(r, "the last one", func(s map[string]wire.DeploymentState) bool {
		return s["web"].Phase == wire.PhaseRunning && s["web"].Generation == 3
	})
	if image := s["web"].Services[0].Image; image != "docker.io/x/a:3" {
		t.Errorf("image %q", image)
	}
}

func TestExits(t *testing.T) {
	for name, tc := range map[string]struct {
		policy wire.RestartPolicy
		code   int
		want   wire.Phase
		text   string
	}{
		"job done":             {wire.RestartNo, 0, wire.PhaseStopped, "code 0"},
		"job failed":           {wire.RestartNo, 3, wire.PhaseFailed, "code 3"},
		"on-failure, done":     {wire.RestartOnFailure, 0, wire.PhaseStopped, "code 0"},
		"on-failure, failed":   {wire.RestartOnFailure, 3, wire.PhaseFailed, "code 3 right after its start"},
		"service that returns": {wire.RestartAlways, 0, wire.PhaseFailed, "code 0 right after its start"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.ran["fleet-web-a"] = func(*Spec) int { return tc.code }
			r := f.runtime()
			s := service("a", "x/a")
			s.RestartPolicy = tc.policy
			f.apply(r, desired(t, "web", 1, s))
			got := f.await(r, "ended", all("web", tc.want))
			if !strings.Contains(got["web"].Message, tc.text) {
				t.Errorf("message %q, want %q in it", got["web"].Message, tc.text)
			}
		})
	}
}

func TestStartFails(t *testing.T) {
	f := newFake(t)
	f.startFails["fleet-web-a"] = "statfs /not/there: no such file or directory"
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a"), service("b", "x/b")))
	s := f.await(r, "failed", func(s map[string]wire.DeploymentState) bool {
		d := s["web"]
		return d.Phase == wire.PhaseFailed && d.Services[1].Phase == wire.PhaseRunning
	})
	if !strings.Contains(s["web"].Message, "a: ") || !strings.Contains(s["web"].Message, "/not/there") {
		t.Errorf("message %q", s["web"].Message)
	}
	f.mu.Lock()
	delete(f.startFails, "fleet-web-a")
	f.mu.Unlock()
	f.await(r, "tried again", all("web", wire.PhaseRunning))
}

func TestUnreachable(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "none.sock")
	f := newFake(t)
	r := f.runtime()
	r.client = NewClient(socket)
	r.Set([]wire.DesiredState{desired(t, "web", 1, service("a", "x/a"))}, nil)
	err := f.pass(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), socket) || hint.Of(err) == "" {
		t.Fatalf("error %v, hint %q", err, hint.Of(err))
	}
	s := f.await(r, "reported", all("web", wire.PhaseFailed))
	if !strings.Contains(s["web"].Message, socket) {
		t.Errorf("message %q", s["web"].Message)
	}

	// A service that accepts and never answers must not hold for ever.
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := contextWithTimeout(t, 100*time.Millisecond)
	defer cancel()
	if err := f.pass(ctx, r); err == nil {
		t.Error("no error from a service that does not answer")
	}
}
