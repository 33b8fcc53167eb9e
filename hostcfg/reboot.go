package hostcfg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Reboot restarts the host when one of the resources named in On changes, or
// changed in a run that did not get as far as its reboot, and waits until the
// host is back.
type Reboot struct {
	Name    string        // names it in its ID; "" is "host"
	On      []string      // IDs of resources
	Timeout time.Duration // for coming back; 0 is 10 min, enough for a Pi that checks its card
}

// ID is "reboot:NAME".
func (r Reboot) ID() string {
	if r.Name == "" {
		return "reboot:host"
	}
	return "reboot:" + r.Name
}

func (r Reboot) after() []string { return r.On }

func (r Reboot) pendingName() string { return strings.ReplaceAll(r.ID(), ":", ".") }

func (r Reboot) prepare() (Resource, error) {
	if r.Timeout == 0 {
		r.Timeout = 10 * time.Minute
	}
	if len(r.On) == 0 {
		return nil, errors.New("names no resource to react to")
	}
	if r.Name == "" {
		return r, nil
	}
	return r, checkWord("reboot", r.Name, "-_.")
}

func (r Reboot) probe(q *query) { q.add(keyPending, r.pendingName()) }

func (r Reboot) plan(s *state, st *Step) error {
	var because []string
	for _, id := range r.On {
		if s.changed[id] {
			because = append(because, id+" changes")
		}
	}
	if len(because) == 0 && s.pending[r.pendingName()] {
		because = append(because, "an interrupted run changed what needs it")
	}
	if len(because) == 0 {
		return nil
	}
	st.change("reboot and wait for the host, because %s", strings.Join(because, " and "))
	st.restarts = r.pendingName()
	st.ops = append(st.ops, &rebootOp{bootID: s.facts.BootID, timeout: r.Timeout})
	return nil
}

// rebootOp reboots, reconnects, and makes sure that it was a reboot.
type rebootOp struct {
	bootID  string
	timeout time.Duration
}

func (o *rebootOp) apply(ctx context.Context, s *session) error {
	h := s.host
	again, ok := h.(Reconnector)
	if !ok {
		return hint.New(fmt.Sprintf("%s cannot be reached again after a reboot from here", h.Name()), "reboot it by hand, then run again")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the host did not come back within %s", o.timeout))
	defer cancel()
	// Detached and a moment later, so that the answer still gets through.
	detached := `(trap '' HUP; sleep 1; systemctl reboot || reboot) </dev/null >/dev/null 2>&1 &
`
	if err := runScript(ctx, h, detached, time.Minute); err != nil {
		return fmt.Errorf("ask for a reboot: %w", err)
	}
	last := errors.New("the host still runs")
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), last)
		case <-time.After(2 * time.Second):
		}
		if err := again.Reconnect(ctx); err != nil {
			last = fmt.Errorf("reconnect: %w", err)
			continue
		}
		f, err := GatherFacts(ctx, h)
		switch {
		case err != nil:
			last = err
		case f.BootID == o.bootID:
			last = errors.New("the host answers, but has not gone down yet")
		default:
			return nil
		}
	}
}
