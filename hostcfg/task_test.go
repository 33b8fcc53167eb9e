package hostcfg_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/hosttest"
)

func TestTask(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	file := hostcfg.File{Path: "/etc/before", Content: "x\n"}
	var saw string
	task := hostcfg.Task{
		Name: "look", Changes: []string{"look at the file"}, On: []string{file.ID()},
		Do: func(ctx context.Context, h hostcfg.Host) error {
			data, err := h.Get(ctx, "/etc/before", 10)
			saw = string(data)
			return err
		},
	}
	// Declared first, and yet done after what it names.
	plan, err := hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{task, file})
	if err != nil {
		t.Fatal(err)
	}
	if saw != "" {
		t.Fatal("planning did the work")
	}
	if st := plan.Step("task:look"); st == nil || !slices.Equal(st.Changes, task.Changes) {
		t.Errorf("the plan does not say what is done: %+v", st)
	}
	out, err := plan.Apply(t.Context(), s, hostcfg.ApplyOptions{})
	if err != nil || out.Changed != 2 || saw != "x\n" {
		t.Errorf("changed %d, saw %q, %v", out.Changed, saw, err)
	}

	broken := errors.New("the issuer says no")
	task.Do = func(context.Context, hostcfg.Host) error { return broken }
	if plan, err = hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{file, task}); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), s, hostcfg.ApplyOptions{}); !errors.Is(err, broken) || !strings.Contains(err.Error(), "task:look") {
		t.Errorf("a task that failed: %v", err)
	}

	idle, err := hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{file, hostcfg.Task{Name: "look"}})
	if err != nil || idle.Changed() {
		t.Errorf("nothing to do, and yet changed: %v", err)
	}
	if _, err := hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{hostcfg.Task{Name: "x", Changes: []string{"y"}}}); err == nil {
		t.Error("accepted work that nobody does")
	}
}
