package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Supervisor is what started the agent: systemd, or nobody.
type Supervisor interface {
	Ready()
	Stopping()
	Status(text string)
	// Alive is called while all loops move.
	Alive()
	// WatchdogInterval is the time without Alive after which the agent is
	// restarted; 0 when nobody watches.
	WatchdogInterval() time.Duration
}

// stuckAfter is how long a loop may take for one turn. The longest honest one
// is a pass over the containers on a slow device.
const stuckAfter = 3 * time.Minute

// pulse tells the supervisor that the agent is alive, and is so only while
// every loop comes round: a process with one stuck loop is not alive.
type pulse struct {
	supervisor Supervisor

	mu   sync.Mutex
	last map[string]time.Time
}

func newPulse(s Supervisor, loops ...string) *pulse {
	p := &pulse{supervisor: s, last: map[string]time.Time{}}
	for _, name := range loops {
		p.last[name] = time.Now()
	}
	return p
}

// beat says that a loop came round.
func (p *pulse) beat(loop string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[loop] = time.Now()
}

// stuck gives a loop that did not come round for too long, or "".
func (p *pulse) stuck(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, last := range p.last {
		if now.Sub(last) > stuckAfter {
			return name
		}
	}
	return ""
}

func (p *pulse) loop(ctx context.Context) {
	interval := p.supervisor.WatchdogInterval()
	if interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		if p.stuck(time.Now()) == "" {
			p.supervisor.Alive()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *Agent) statusText() string {
	running := 0
	states := a.cfg.Engine.States()
	for _, s := range states {
		if s.Phase == wire.PhaseRunning {
			running++
		}
	}
	s := fmt.Sprintf("%d of %d deployments running", running, len(states))
	if !a.link.Up() {
		s += ", not connected"
		if err := a.link.Problem(); err != nil {
			s += ": " + err.Error()
		}
	}
	if loop := a.pulse.stuck(time.Now()); loop != "" {
		s += ", loop " + loop + " is stuck"
	}
	return s
}
