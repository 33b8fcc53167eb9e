package hostcfg

import (
	"context"
	"errors"
	"time"
)

// Task is work at a place in the plan that only its caller can do, since it
// needs more than the host: such as registering, elsewhere, a key that the host
// made. The caller also knows whether it is to be done; the plan has its words.
// It has to bear being cut off and done again.
type Task struct {
	Name string
	// Changes say what it will do, a line each; none means that nothing is to
	// be done.
	Changes []string
	Do      func(ctx context.Context, h Host) error
	Timeout time.Duration // 0 is two minutes
	On      []string      // IDs of resources that come before it
}

// ID is "task:NAME".
func (t Task) ID() string { return "task:" + t.Name }

func (t Task) after() []string { return t.On }

func (t Task) prepare() (Resource, error) {
	switch {
	case t.Name == "":
		return nil, errors.New("has no name")
	case len(t.Changes) > 0 && t.Do == nil:
		return nil, errors.New("has something to do, and nobody who does it")
	}
	if t.Timeout == 0 {
		t.Timeout = 2 * time.Minute
	}
	return t, nil
}

func (t Task) probe(*query) {}

func (t Task) plan(_ *state, st *Step) error {
	for _, c := range t.Changes {
		st.change("%s", c)
	}
	if len(t.Changes) > 0 {
		st.ops = append(st.ops, taskOp{t.Do, t.Timeout})
	}
	return nil
}

type taskOp struct {
	do      func(ctx context.Context, h Host) error
	timeout time.Duration
}

func (o taskOp) apply(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	return o.do(ctx, s.host)
}
