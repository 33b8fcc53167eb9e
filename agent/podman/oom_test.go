package podman

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// kills plays a kernel that has killed so many processes for want of memory. The
// file is never seen half written.
func kills(t *testing.T, file string, n int) {
	t.Helper()
	if err := os.WriteFile(file+".new", fmt.Appendf(nil, "low 0\nhigh 0\nmax 31\noom %d\noom_kill %d\noom_group_kill 0\n", n, n), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func TestOOMKills(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.events")
	o := &oomKills{file: file}
	explain := func(end time.Time) bool { killed, _ := o.explain(end); return killed }
	if killed, known := o.explain(time.Now()); killed || known {
		t.Error("without a file")
	}
	kills(t, file, 3)
	if killed, known := o.explain(time.Now()); killed || !known {
		t.Error("kills from before the first look")
	}
	calm := time.Now()
	o.look()
	kills(t, file, 4)
	first, second := explain(time.Now()), explain(time.Now())
	if !first || !second {
		t.Error("an end after a kill, asked twice")
	}
	if explain(calm) || explain(time.Now().Add(dying+time.Minute)) {
		t.Error("an end before the kill, or long after it")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	o.look()
	kills(t, file, 9)
	if explain(time.Now().Add(dying + time.Minute)) {
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
	f.settle(r)
	is(wire.ReasonOutOfMemory, "exited with code 137 (out of memory)")
}

// Podman's mark outlives a restart: it explains the end that it came with, and no
// other that something else explains.
func TestOutOfMemoryOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.events")
	r, w := &Runtime{ooms: oomKills{file: file}}, &worker{}
	began := time.Now()
	ended := func(container string, code int, at time.Time) bool {
		return r.ranOut(w, Container{ID: container, State: ContainerState{Status: "exited", ExitCode: code, OOMKilled: true, FinishedAt: at}})
	}
	first, second := ended("a", 1, began), ended("a", 1, began)
	if !first || !second {
		t.Error("the first end, asked twice, is not for want of memory")
	}
	again := began.Add(time.Minute)
	if ended("a", 1, again) {
		t.Error("it ended by itself, later")
	}
	if !ended("a", 137, again) {
		t.Error("killed later, and the kernel does not say by whom")
	}
	kills(t, file, 1)
	r.ooms.look()
	if ended("a", 137, again.Add(time.Minute)) {
		t.Error("killed later, and not by the kernel")
	}
	kills(t, file, 2)
	if !ended("a", 137, time.Now()) {
		t.Error("killed by the kernel again")
	}
	if !ended("b", 1, began) {
		t.Error("another container")
	}
	running := Container{ID: "c", State: ContainerState{Status: "running", OOMKilled: true, FinishedAt: began}}
	if !r.ranOut(w, running) || ended("c", 1, again) {
		t.Error("marked before it was first seen, and ended by itself")
	}
}
