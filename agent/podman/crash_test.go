package podman

import (
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// A service that keeps dying has failed, also while it runs for a moment, and
// whoever starts it again: here nobody but us does.
func TestCrashLoopThatPodmanLeavesToUs(t *testing.T) {
	f := newFake(t)
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a")))
	f.await(r, "running", all("web", wire.PhaseRunning))
	state := func() *ContainerState { return &f.find("fleet-web-a").State }
	dies := func(after time.Duration) {
		f.mu.Lock()
		s := state()
		s.Status, s.ExitCode, s.OOMKilled, s.FinishedAt = "exited", 137, true, s.StartedAt.Add(after)
		f.mu.Unlock()
		signal(r.again)
	}
	runsAgain := func(want wire.Phase) wire.ServiceState {
		t.Helper()
		var got wire.ServiceState
		f.await(r, "started again", func(s map[string]wire.DeploymentState) bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			got = s["web"].Services[0]
			return state().Status == "running" && got.Phase == want && got.Message != "starting" && !strings.Contains(got.Message, "right after")
		})
		return got
	}
	dies(time.Hour)
	runsAgain(wire.PhaseRunning)
	dies(time.Second) // once is nothing yet
	runsAgain(wire.PhaseRunning)
	dies(time.Second)
	f.await(r, "failed", all("web", wire.PhaseFailed))
	got := runsAgain(wire.PhaseFailed)
	if got.Reason != wire.ReasonOutOfMemory || !strings.Contains(got.Message, "keeps exiting; restarted 2 times; the last time it exited with code 137 (out of memory)") {
		t.Errorf("reason %q, message %q", got.Reason, got.Message)
	}
	// Once it has proved itself it runs.
	f.mu.Lock()
	state().StartedAt = time.Now().Add(-proving)
	f.mu.Unlock()
	signal(r.again)
	f.await(r, "running", all("web", wire.PhaseRunning))
}

// Who stops and starts a service again and again makes no crash loop.
func TestStoppedByHandIsNoCrash(t *testing.T) {
	f := newFake(t)
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a")))
	f.await(r, "running", all("web", wire.PhaseRunning))
	target := wire.Target{Deployment: "web"}
	for range 2 * crashLoop {
		if err := r.Stop(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		f.find("fleet-web-a").State.FinishedAt = time.Now()
		f.mu.Unlock()
		f.await(r, "stopped", all("web", wire.PhaseStopped))
		signal(r.again)
		if err := r.Start(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
}
