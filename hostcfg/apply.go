package hostcfg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// ApplyOptions are what a caller may want to hear while a plan is applied.
type ApplyOptions struct {
	OnStep func(StepEvent) // called in order, from the goroutine of Apply; may be nil
	Log    *slog.Logger    // nil logs nothing
}

// StepEvent tells how a step of a plan comes along. Steps without changes
// have no events.
type StepEvent struct {
	Step    *Step
	Index   int // among the steps that change something, from 0
	Total   int // number of those steps
	Done    bool
	Elapsed time.Duration // when done
	Err     error         // when done and failed
}

// Outcome is what became of a plan.
type Outcome struct {
	Host    string        `json:"host"`
	Changed int           `json:"changed"` // number of steps that were carried out
	Seconds float64       `json:"seconds"`
	Steps   []StepOutcome `json:"steps"` // all steps up to the one that failed
}

// StepOutcome is what became of a step.
type StepOutcome struct {
	ID      string  `json:"id"`
	Changed bool    `json:"changed"`
	Seconds float64 `json:"seconds"`
	Diff    string  `json:"diff,omitempty"`
	Error   string  `json:"error,omitempty"`
}

const changedHint = "plan again: the new plan shows what is different"

// Apply carries out the plan. It first looks whether the host is still as the
// plan saw it, and stops before the first change when it is not (the error
// wraps ErrHostChanged). A failed step ends the run; planning and applying
// again continues from there. The outcome is never nil.
func (p *Plan) Apply(ctx context.Context, h Host, opts ApplyOptions) (*Outcome, error) {
	if opts.OnStep == nil {
		opts.OnStep = func(StepEvent) {}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	start := time.Now()
	out := &Outcome{Host: h.Name(), Steps: []StepOutcome{}}
	defer func() { out.Seconds = time.Since(start).Seconds() }()
	if err := p.verify(ctx, h); err != nil {
		return out, err
	}
	shared := &session{host: h}
	defer shared.close()
	total, index := p.ChangeCount(), 0
	for _, st := range p.Steps {
		if !st.Changed() {
			out.Steps = append(out.Steps, StepOutcome{ID: st.ID})
			continue
		}
		opts.OnStep(StepEvent{Step: st, Index: index, Total: total})
		began := time.Now()
		err := st.apply(ctx, shared)
		took := time.Since(began)
		so := StepOutcome{ID: st.ID, Changed: err == nil, Seconds: took.Seconds(), Diff: st.Diff}
		if err != nil {
			so.Error = err.Error()
		}
		out.Steps = append(out.Steps, so)
		opts.OnStep(StepEvent{Step: st, Index: index, Total: total, Done: true, Elapsed: took, Err: err})
		if err != nil {
			err = fmt.Errorf("apply %s on %s: %w", st.ID, h.Name(), err)
			if errors.Is(err, ErrHostChanged) {
				err = hint.Wrap(err, changedHint)
			}
			return out, err
		}
		opts.Log.Info("applied", "host", h.Name(), "op", st.ID, "seconds", took.Seconds())
		out.Changed++
		index++
	}
	return out, nil
}

// verify looks once more at everything that the changing steps were planned
// from. Effects of the plan's own steps are no concern: none has run yet.
func (p *Plan) verify(ctx context.Context, h Host) error {
	if !p.Changed() {
		return nil
	}
	q := newQuery()
	for _, st := range p.Steps {
		if st.Changed() {
			for _, k := range st.keys {
				q.add(k.kind, k.name)
			}
		}
	}
	now, err := look(ctx, h, q)
	if err != nil {
		return fmt.Errorf("look at %s again: %w", h.Name(), err)
	}
	if p.Facts != nil && p.Facts.MachineID != now.facts.MachineID {
		return fmt.Errorf("%s is another machine than the one that was planned for: %w", h.Name(), ErrHostChanged)
	}
	var differ []string
	for _, st := range p.Steps {
		for _, k := range st.keys {
			if st.Changed() && now.observed(k) != st.seen[k] {
				differ = append(differ, k.String())
				break
			}
		}
	}
	if len(differ) > 0 {
		return hint.Wrap(fmt.Errorf("%s: %w: %s", h.Name(), ErrHostChanged, strings.Join(differ, ", ")), changedHint)
	}
	return nil
}

// apply carries out the operations of a step, its markers first.
func (st *Step) apply(ctx context.Context, s *session) error {
	ops := st.ops
	if len(st.marks) > 0 {
		mark := secretText("mkdir -p \"$pending\"\n" + touchPending(st.marks))
		if first, ok := ops[0].(*scriptOp); ok {
			ops = append([]op{&scriptOp{script: mark + first.script, timeout: first.timeout}}, ops[1:]...)
		} else {
			ops = append([]op{&scriptOp{script: mark, timeout: time.Minute}}, ops...)
		}
	}
	for _, o := range ops {
		if err := o.apply(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func touchPending(names []string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, ": >\"$pending\"/%s\n", quote(n))
	}
	return b.String()
}
