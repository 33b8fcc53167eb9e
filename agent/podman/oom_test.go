package podman

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// kills plays a kernel that has killed so many processes for want of memory.
func kills(t *testing.T, file string, n int) {
	t.Helper()
	if err := os.WriteFile(file, fmt.Appendf(nil, "low 0\nhigh 0\nmax 31\noom %d\noom_kill %d\noom_group_kill 0\n", n, n), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOOMKills(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.events")
	o := &oomKills{file: file}
	if o.explain(time.Now()) {
		t.Error("without a file")
	}
	kills(t, file, 3)
	if o.explain(time.Now()) {
		t.Error("kills from before the first look")
	}
	calm := time.Now()
	o.look()
	kills(t, file, 4)
	first, second := o.explain(time.Now()), o.explain(time.Now())
	if !first || !second {
		t.Error("an end after a kill, asked twice")
	}
	if o.explain(calm) || o.explain(time.Now().Add(dying+time.Minute)) {
		t.Error("an end before the kill, or long after it")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	o.look()
	kills(t, file, 9)
	if o.explain(time.Now().Add(dying + time.Minute)) {
		t.Error("another cgroup's count was compared")
	}
	for n := range 3 * oomsKept {
		kills(t, file, 10+n)
		o.look()
	}
	if len(o.ooms) > oomsKept {
		t.Errorf("%d are kept", len(o.ooms))
	}
}

// Who was killed when the kernel was short of memory is said to have been so,
// also where Podman did not notice, and stays so; one that was killed at another
// time, or ended by itself, is not.
func TestOutOfMemoryThatPodmanMissed(t *testing.T) {
	f := newFake(t)
	r := f.runtime()
	r.ooms.file = filepath.Join(t.TempDir(), "memory.events")
	kills(t, r.ooms.file, 7)
	once := service("a", "x/a")
	once.RestartPolicy = wire.RestartNo
	f.apply(r, desired(t, "web", 1, once))
	f.await(r, "running", all("web", wire.PhaseRunning))

	ends := func(code int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		s := &f.find("fleet-web-a").State
		s.Status, s.ExitCode, s.FinishedAt = "exited", code, time.Now()
		signal(r.again)
	}
	is := func(reason wire.Reason, message string) {
		t.Helper()
		f.await(r, string(reason), func(s map[string]wire.DeploymentState) bool {
			got := s["web"].Services[0]
			return got.Phase == wire.PhaseFailed && got.Reason == reason && got.Message == message
		})
	}
	ends(137)
	is(wire.ReasonExited, "exited with code 137")
	kills(t, r.ooms.file, 8)
	ends(1)
	is(wire.ReasonExited, "exited with code 1")
	kills(t, r.ooms.file, 9)
	ends(137)
	is(wire.ReasonOutOfMemory, "exited with code 137 (out of memory)")
	r.ooms.mu.Lock()
	r.ooms.ooms = nil // long ago by now
	r.ooms.mu.Unlock()
	f.apply(r, desired(t, "web", 1, once))
	r.Wait()
	is(wire.ReasonOutOfMemory, "exited with code 137 (out of memory)")
}
