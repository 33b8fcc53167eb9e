package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

// hostsResult is what scripts get of onboard and offboard.
type hostsResult struct {
	SchemaVersion int          `json:"schemaVersion"`
	Hosts         []hostResult `json:"hosts"`
}

type hostResult struct {
	Host     string       `json:"host"`
	DeviceID string       `json:"deviceId"`
	Changed  int          `json:"changed"` // number of steps; with --plan of those that would change
	Seconds  float64      `json:"seconds"`
	Error    string       `json:"error"` // "" when all went well
	Hint     string       `json:"hint,omitempty"`
	Steps    []stepResult `json:"steps"`
}

type stepResult struct {
	ID      string   `json:"id"`
	Changed bool     `json:"changed"`
	Seconds float64  `json:"seconds"`
	Changes []string `json:"changes,omitempty"`
	Diff    string   `json:"diff,omitempty"`
	Error   string   `json:"error,omitempty"`
}

func (r *hostRun) result() hostsResult {
	result := hostsResult{SchemaVersion: wire.SchemaVersion, Hosts: []hostResult{}}
	for _, j := range r.jobs {
		h := hostResult{Host: j.name, DeviceID: j.device, Seconds: j.took.Seconds(), Steps: []stepResult{}}
		if j.err != nil {
			h.Error, h.Hint = j.err.Error(), hint.Of(j.err)
		}
		switch {
		case j.outcome != nil:
			h.Changed = j.outcome.Changed
			for _, s := range j.outcome.Steps {
				h.Steps = append(h.Steps, stepResult{ID: s.ID, Changed: s.Changed, Seconds: s.Seconds, Changes: changesOf(j.plan, s.ID), Diff: s.Diff, Error: s.Error})
			}
		case j.plan != nil:
			h.Changed = j.plan.ChangeCount()
			for _, s := range j.plan.Steps {
				h.Steps = append(h.Steps, stepResult{ID: s.ID, Changed: s.Changed(), Changes: s.Changes, Diff: s.Diff})
			}
		}
		result.Hosts = append(result.Hosts, h)
	}
	return result
}

func changesOf(p *hostcfg.Plan, id string) []string {
	if s := p.Step(id); s != nil {
		return s.Changes
	}
	return nil
}

// finish prints what became of every host: recap for one, a table for several.
func (r *hostRun) finish(ctx context.Context, recap func(*hostJob) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := r.factory.Print(r.result(), func(w io.Writer) error {
		if len(r.jobs) > 1 {
			return r.writeTable(w)
		}
		if j := r.jobs[0]; j.err == nil {
			return recap(j)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return r.failure()
}

func (r *hostRun) writeTable(w io.Writer) error {
	var rows [][]string
	for _, j := range r.jobs {
		changed, outcome := "", "ok"
		if j.outcome != nil {
			changed = fmt.Sprint(j.outcome.Changed)
		}
		if j.err != nil {
			first, _, _ := strings.Cut(j.err.Error(), "\n")
			outcome = "failed: " + first
		}
		rows = append(rows, []string{j.name, j.device, changed, fmt.Sprintf("%.1fs", j.took.Seconds()), outcome})
	}
	return table(w, []string{"HOST", "DEVICE", "CHANGED", "TIME", "RESULT"}, rows)
}

// failure is the run's error. One host's is returned as it is; those of several
// are printed each, and the exit code is theirs when they share one.
func (r *hostRun) failure() error {
	var failed []*hostJob
	for _, j := range r.jobs {
		if j.err != nil {
			failed = append(failed, j)
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case len(r.jobs) == 1:
		return failed[0].err
	}
	code := hint.Code(failed[0].err)
	for _, j := range failed {
		printError(r.factory.Err, r.factory.ColorErr(), fmt.Errorf("%s: %w", j.name, j.err))
		if hint.Code(j.err) != code {
			code = hint.CodeFailed
		}
	}
	return hint.WithCode(fmt.Errorf("%d of %d hosts failed", len(failed), len(r.jobs)), code)
}
