package disk

import "testing"

func TestRuns(t *testing.T) {
	dir := t.TempDir()
	open := func(boot string) *Runs {
		t.Helper()
		r, err := OpenRuns(dir, boot)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	note := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first := open("boot-1")
	note(first.Started("job"))
	note(first.Started("service"))
	note(first.Ended("job"))
	note(first.Started("removed"))
	note(first.Forget("removed"))
	if first.Interrupted("service") {
		t.Error("interrupted within one boot")
	}
	if open("boot-1").Interrupted("service") {
		t.Error("a restart of the agent counts as a reboot")
	}
	second := open("boot-2")
	for container, want := range map[string]bool{"service": true, "job": false, "removed": false, "unknown": false} {
		if second.Interrupted(container) != want {
			t.Errorf("%s: interrupted is %v", container, !want)
		}
	}
	note(second.Started("service"))
	if second.Interrupted("service") {
		t.Error("interrupted though it was started again")
	}
}
