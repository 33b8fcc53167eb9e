package hostcfg

import (
	"fmt"
	"slices"
)

// Resource is one thing that a host should have, or should no longer have.
// The set is closed: the types of this package. A resource says what must be
// looked at (probe) and compares that with what is wanted (plan); both are
// pure, and the engine does all the talking to the host.
type Resource interface {
	// ID names the resource in plans, in RestartOn and in reports, such as
	// "file:/etc/hosts". It is unique within a plan.
	ID() string
	// prepare checks what can be checked without the host, and returns the
	// resource with its defaults filled in.
	prepare() (Resource, error)
	// probe adds what plan will look at to the query.
	probe(q *query)
	// plan appends what has to change to the step; a step without changes
	// means that the host has the resource already. What the step will do to
	// state that later resources look at is written into s.
	plan(s *state, st *Step) error
}

// after is implemented by resources that react to others: they come later in
// the plan than the resources named.
type after interface{ after() []string }

// claims is implemented by resources that write paths. Two resources that
// claim the same path conflict, unless both own only a part of it.
type claims interface{ claims() []claim }

type claim struct {
	path string
	part bool
}

// Switch is a wish that can be left open.
type Switch int

// The values of a Switch.
const (
	LeaveAlone Switch = iota
	On
	Off
)

// When applies r only on hosts whose facts satisfy cond; elsewhere it counts
// as unchanged. It is probed in any case, so that the condition costs no
// further round trip.
func When(cond func(*Facts) bool, r Resource) Resource { return conditional{r, cond} }

type conditional struct {
	Resource
	cond func(*Facts) bool
}

func (c conditional) prepare() (Resource, error) {
	r, err := c.Resource.prepare()
	return conditional{r, c.cond}, err
}

func (c conditional) plan(s *state, st *Step) error {
	if !c.cond(s.facts) {
		return nil
	}
	return c.Resource.plan(s, st)
}

func (c conditional) after() []string {
	if a, ok := c.Resource.(after); ok {
		return a.after()
	}
	return nil
}

func (c conditional) claims() []claim {
	if cl, ok := c.Resource.(claims); ok {
		return cl.claims()
	}
	return nil
}

// Prepare checks resources and reads their local sources, so that planning
// them for many hosts hashes each source once instead of once a host.
func Prepare(resources []Resource) ([]Resource, error) { return order(resources) }

// order prepares a set of resources and sorts it: declaration order, except
// that a resource comes after those it reacts to.
func order(resources []Resource) ([]Resource, error) {
	byID := make(map[string]Resource, len(resources))
	owner := map[string]string{} // path → ID of the first that claims it
	whole := map[string]bool{}   // path → its owner claims all of it
	resources = slices.Clone(resources)
	for i, r := range resources {
		r, err := r.prepare()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", resources[i].ID(), err)
		}
		resources[i] = r
		if byID[r.ID()] != nil {
			return nil, fmt.Errorf("%s is declared twice", r.ID())
		}
		byID[r.ID()] = r
		cl, ok := r.(claims)
		if !ok {
			continue
		}
		for _, c := range cl.claims() {
			other, taken := owner[c.path]
			if taken && (whole[c.path] || !c.part) {
				return nil, fmt.Errorf("%s and %s both manage %s", other, r.ID(), c.path)
			}
			owner[c.path], whole[c.path] = r.ID(), !c.part
		}
	}
	var sorted, open []Resource
	done := map[string]bool{}
	var visit func(r Resource) error
	visit = func(r Resource) error {
		if done[r.ID()] {
			return nil
		}
		if slices.ContainsFunc(open, func(o Resource) bool { return o.ID() == r.ID() }) {
			return fmt.Errorf("%s depends on itself", r.ID())
		}
		open = append(open, r)
		defer func() { open = open[:len(open)-1] }()
		if a, ok := r.(after); ok {
			for _, id := range a.after() {
				dep := byID[id]
				if dep == nil {
					return fmt.Errorf("%s reacts to %s, which is not declared", r.ID(), id)
				}
				if err := visit(dep); err != nil {
					return err
				}
			}
		}
		done[r.ID()] = true
		sorted = append(sorted, r)
		return nil
	}
	for _, r := range resources {
		if err := visit(r); err != nil {
			return nil, err
		}
	}
	return sorted, nil
}
