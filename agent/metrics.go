package agent

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nationtech/fleetctl/agent/exposition"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Counter is an Engine that counts what it does to containers.
type Counter interface {
	Counts() (created, started, exited, repaired uint64)
}

// Expirer is a Link that knows when the credential ends that it was made with;
// zero when it does not.
type Expirer interface{ Expires() time.Time }

// figures are what the agent itself counts.
type figures struct {
	connects, heartbeats, reports atomic.Uint64

	mu     sync.Mutex
	passes uint64
	spent  time.Duration
}

func (f *figures) pass(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passes++
	f.spent += took
}

// source is what a monitoring system on the device gets.
func (a *Agent) source() exposition.Source {
	return exposition.Source{Metrics: a.metrics, Alive: a.aliveError, Ready: a.readyError}
}

func (a *Agent) aliveError() error {
	if loop := a.pulse.stuck(time.Now()); loop != "" {
		return errors.New("loop " + loop + " is stuck")
	}
	return nil
}

// readyError is about the device's work: it goes on without a connection, but
// takes no news.
func (a *Agent) readyError() error {
	a.mu.Lock()
	err := errors.Join(a.faults.manifest, a.faults.disk, a.faults.engine)
	a.mu.Unlock()
	if !a.link.Up() {
		err = errors.Join(err, errors.New("not connected"), a.link.Problem())
	}
	return err
}

// metrics are documented in docs/monitoring.md.
func (a *Agent) metrics(p *exposition.Page) {
	p.Gauge("fleet_agent_info", "The agent and the device that it is of.", 1, "device", a.cfg.Device, "version", a.cfg.Version)
	p.Time("fleet_agent_start_time_seconds", "When the agent started.", a.started)
	p.Gauge("fleet_agent_connected", "Whether it is connected to the fleet.", truth(a.link.Up()))
	p.Counter("fleet_agent_connects_total", "Connections to the fleet since the agent started.", float64(a.figures.connects.Load()))
	if e, able := a.link.(Expirer); able {
		p.Time("fleet_agent_token_expiry_timestamp_seconds", "When the credential of the connection ends; it is renewed before.", e.Expires())
	}
	p.Counter("fleet_agent_heartbeats_total", "Heartbeats sent.", float64(a.figures.heartbeats.Load()))
	p.Counter("fleet_agent_reports_total", "Reports of the device's state that arrived.", float64(a.figures.reports.Load()))

	a.mu.Lock()
	revision := uint64(0)
	if a.held != nil {
		revision = a.held.Manifest.Revision
	}
	faulty := map[string]error{"manifest": a.faults.manifest, "disk": a.faults.disk, "engine": a.faults.engine}
	a.mu.Unlock()
	p.Gauge("fleet_agent_revision", "Revision of the manifest in force; 0 before the first.", float64(revision))
	for _, part := range []string{"manifest", "disk", "engine"} {
		p.Gauge("fleet_agent_fault", "What keeps the device from working on its manifest.", truth(faulty[part] != nil), "part", part)
	}
	warnings := 0
	if w, able := a.cfg.Engine.(Warner); able {
		warnings = len(w.Warnings())
	}
	p.Gauge("fleet_agent_warnings", "What a person should see to, such as a disk that is nearly full.", float64(warnings))

	a.figures.mu.Lock()
	passes, spent := a.figures.passes, a.figures.spent
	a.figures.mu.Unlock()
	p.Counter("fleet_agent_passes_total", "Passes over the containers.", float64(passes))
	p.Counter("fleet_agent_pass_seconds_total", "Time that the passes took.", spent.Seconds())
	a.containerMetrics(p)
	if bytes, known := residentBytes(); known {
		p.Gauge("process_resident_memory_bytes", "Memory of the agent, without its containers.", bytes)
	}
}

func (a *Agent) containerMetrics(p *exposition.Page) {
	deployments, containers := map[wire.Phase]int{}, map[wire.Phase]int{}
	for _, d := range a.cfg.Engine.States() {
		deployments[d.Phase]++
		for _, s := range d.Services {
			containers[s.Phase]++
		}
	}
	phases := []wire.Phase{wire.PhasePending, wire.PhaseRunning, wire.PhaseFailed, wire.PhaseStopped, wire.PhaseRemoving}
	for _, phase := range phases {
		p.Gauge("fleet_agent_deployments", "Deployments by phase.", float64(deployments[phase]), "phase", string(phase))
	}
	for _, phase := range phases {
		p.Gauge("fleet_agent_containers", "Services by phase, each of which is a container.", float64(containers[phase]), "phase", string(phase))
	}
	c, able := a.cfg.Engine.(Counter)
	if !able {
		return
	}
	created, started, exited, repaired := c.Counts()
	p.Counter("fleet_agent_containers_created_total", "Containers made.", float64(created))
	p.Counter("fleet_agent_containers_started_total", "Containers started by the agent; Podman's own restarts are not among them.", float64(started))
	p.Counter("fleet_agent_containers_exited_total", "Containers whose process ended, for whatever reason.", float64(exited))
	p.Counter("fleet_agent_drift_repairs_total", "Containers that somebody else changed and the agent brought back.", float64(repaired))
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// residentBytes reads proc_pid_statm(5).
func residentBytes() (bytes float64, known bool) {
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	return float64(pages) * float64(os.Getpagesize()), err == nil
}
