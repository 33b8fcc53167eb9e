package hostcfg

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Plan is what has to change on one host, computed without writing anything.
// It is data: Apply carries out exactly this and nothing else. Its JSON form
// is for people and reports; contents of sensitive files are not in it.
type Plan struct {
	Host  string  `json:"host"`
	Facts *Facts  `json:"facts"`
	Steps []*Step `json:"steps"` // one for each resource, in the order of application
}

// Step is the part of a plan that concerns one resource.
type Step struct {
	ID      string   `json:"id"`
	Kind    string   `json:"kind"`    // the part of the ID before the colon
	Changes []string `json:"changes"` // what will be done, a line each; empty when nothing is
	Diff    string   `json:"diff,omitempty"`
	// Observed is what the step was planned from. Apply compares it with the
	// host before the first change. Hashes of sensitive files are left out.
	Observed map[string]string `json:"observed,omitempty"`

	keys     []key
	seen     map[key]string
	ops      []op
	restarts string   // the pending marker of what the step restarts
	marks    []string // pending markers to set before the first operation
}

// Changed says whether the step does anything.
func (st *Step) Changed() bool { return len(st.Changes) > 0 }

// Changed says whether applying the plan would do anything.
func (p *Plan) Changed() bool { return p.ChangeCount() > 0 }

// ChangeCount is the number of steps that do something.
func (p *Plan) ChangeCount() int {
	n := 0
	for _, st := range p.Steps {
		if st.Changed() {
			n++
		}
	}
	return n
}

// Step finds a step by its resource's ID, or returns nil.
func (p *Plan) Step(id string) *Step {
	for _, st := range p.Steps {
		if st.ID == id {
			return st
		}
	}
	return nil
}

// MakePlan looks at the host, in one round trip, and compares it with the
// resources. Two resources that manage the same thing are an error.
func MakePlan(ctx context.Context, h Host, resources []Resource) (*Plan, error) {
	sorted, err := order(resources)
	if err != nil {
		return nil, err
	}
	all := newQuery()
	for _, r := range sorted {
		r.probe(all)
	}
	s, err := look(ctx, h, all)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", h.Name(), err)
	}
	// Taken before the first resource is planned: from then on s holds effects.
	seen := map[key]string{}
	for _, k := range all.keys {
		seen[k] = s.observed(k)
	}
	plan := &Plan{Host: h.Name(), Facts: s.facts}
	for _, r := range sorted {
		st := newStep(r, seen)
		if err := r.plan(s, st); err != nil {
			return nil, fmt.Errorf("plan %s on %s: %w", r.ID(), h.Name(), err)
		}
		if st.Changed() {
			s.changed[st.ID] = true
		}
		plan.Steps = append(plan.Steps, st)
	}
	plan.markRestarts(sorted)
	return plan, nil
}

// newStep records what the resource's keys looked like.
func newStep(r Resource, seen map[key]string) *Step {
	kind, _, _ := strings.Cut(r.ID(), ":")
	st := &Step{ID: r.ID(), Kind: kind, Changes: []string{}, Observed: map[string]string{}, seen: map[key]string{}}
	own := newQuery()
	r.probe(own)
	st.keys = own.keys
	for _, k := range st.keys {
		st.seen[k] = seen[k]
		if seen[k] != "absent" || !isTemp(k) {
			st.Observed[k.String()] = redactObserved(own, k, seen[k])
		}
	}
	return st
}

func isTemp(k key) bool { return k.kind == keyPath && strings.HasSuffix(k.name, ".fleetctl-new") }

// redactObserved cuts the hash of a file whose content must not be known: the
// hash of a short secret gives the secret away.
func redactObserved(q *query, k key, observed string) string {
	if k.kind == keyPath && q.secret[k.name] {
		before, _, _ := strings.Cut(observed, " sha256:")
		return before
	}
	return observed
}

// markRestarts lets every step that makes a later unit restart leave a marker
// first. When the run is cut off in between, the next plan still knows that
// the unit runs with old files.
func (p *Plan) markRestarts(resources []Resource) {
	for i, r := range resources {
		st := p.Steps[i]
		if st.restarts == "" {
			continue
		}
		st.marks = append(st.marks, st.restarts)
		if a, ok := r.(after); ok {
			for _, id := range a.after() {
				if cause := p.Step(id); cause.Changed() {
					cause.marks = append(cause.marks, st.restarts)
				}
			}
		}
	}
}

// change adds a line for people to the step.
func (st *Step) change(format string, args ...any) {
	st.Changes = append(st.Changes, fmt.Sprintf(format, args...))
}

// run adds a script to the step, to be run with the helpers of applyHead.
func (st *Step) run(script string) { st.runFor(script, 2*time.Minute) }

func (st *Step) runFor(script string, timeout time.Duration) {
	st.ops = append(st.ops, &scriptOp{script: secretText(script), timeout: timeout})
}

// addDiff appends a file's diff to the step's.
func (st *Step) addDiff(diff string) { st.Diff += diff }
