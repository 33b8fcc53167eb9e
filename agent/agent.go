// Package agent is the control loop on a device: it gets what the control
// plane wants, checks that the control plane really signed it, keeps it on
// disk, has an engine make it so, and reports.
//
// It is level-triggered. Each loop looks at how things are, whatever woke it,
// so a lost message costs time and nothing else. It starts from disk and needs
// a network only for news. How containers are run (agent/podman), how NATS is
// spoken (agent/link) and what lies on disk (agent/disk) is not its affair.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/agent/disk"
	"github.com/nationtech/fleetctl/agent/exposition"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Engine runs deployments. agent/podman implements it.
type Engine interface {
	// Set replaces what is desired; the deployments in keep stay as they are.
	Set(states []wire.DesiredState, keep []string)
	// Reconcile makes a pass and returns without waiting for its outcome.
	// Before the first Set it does nothing.
	Reconcile(ctx context.Context) error
	// States gives every deployment that is desired or not gone yet.
	States() []wire.DeploymentState
	// Changed receives after States changed, Again when a pass is due.
	Changed() <-chan struct{}
	Again() <-chan struct{}
	// Version is that of the container engine.
	Version(ctx context.Context) (string, error)
	// Wait returns when nothing is under way any more, after the context of
	// Reconcile ended.
	Wait()
}

// Watcher is an Engine that notices changes by itself, until ctx ends.
type Watcher interface{ Watch(ctx context.Context) }

// Warner is an Engine that may have something for a person to see to.
type Warner interface{ Warnings() []string }

// Link is the connection to the fleet. agent/link implements it.
type Link interface {
	Up() bool
	Problem() error
	Get(ctx context.Context, bucket wire.Bucket, key string) (data []byte, found bool, err error)
	Put(ctx context.Context, bucket wire.Bucket, key string, data []byte) error
	Send(subject string, data []byte) error
	Subscribe(subject string, handle func(subject string, data []byte)) error
	Close(ctx context.Context) error
}

// Config is what an Agent needs. All fields are required unless said otherwise.
type Config struct {
	Device    string
	Version   string // of the agent
	StateDir  string
	Labels    map[string]string // optional
	MachineID string            // hashed
	Engine    Engine
	// EngineName goes into the inventory: "podman", or "none".
	EngineName string
	// Keys reads the file of pinned keys (wire.PinnedKeys). It is asked again
	// when a signature is by a key that is not known: whoever onboards the
	// device anew need not restart the agent.
	Keys func() ([]byte, error)
	// Connect opens the link; connected is called on each connect.
	Connect func(ctx context.Context, connected func()) (Link, error)
	// Inventory collects the facts about the machine.
	Inventory func() wire.Inventory
	// FleetTime is the control plane's time, as well as it is known: a device's
	// own clock may be wrong. Optional.
	FleetTime  func() time.Time
	Supervisor Supervisor
	// Metrics is where a monitoring system on the device asks; optional. Run
	// closes it.
	Metrics net.Listener
	Log     *slog.Logger
	Timing  Timing // optional; the zero value means DefaultTiming
}

// Timing is how often things happen that nothing else triggers.
type Timing struct {
	Tick      time.Duration // pass over the containers
	Look      time.Duration // look at the manifest without a hint
	Heartbeat time.Duration
	State     time.Duration // report of an unchanged state
	Info      time.Duration // look whether the inventory changed
}

// DefaultTiming is what devices run with.
func DefaultTiming() Timing {
	return Timing{
		Tick: 30 * time.Second, Look: wire.RefreshInterval, Heartbeat: wire.HeartbeatInterval,
		State: wire.RefreshInterval, Info: 10 * time.Minute,
	}
}

// Agent is one device's control loop.
type Agent struct {
	cfg     Config
	timing  Timing
	log     *slog.Logger
	link    Link
	nonces  *disk.Nonces
	keys    *keyring
	pulse   *pulse
	streams streams
	figures figures
	started time.Time

	// Each receives once for any number of signals.
	look, reconcile, report, announce, beat chan struct{}

	mu   sync.Mutex
	held *disk.Desired // last accepted; nil before the first
	// unstored: it is not on the disk.
	unstored bool
	fetch    map[string]error // deployments whose current state could not be fetched
	broken   map[string]error // deployments whose state cannot be decoded
	faults   faults
}

// faults are what keeps the device from working on its manifest.
type faults struct{ manifest, disk, engine error }

// New makes an agent. It reads what is on disk; a damaged file is logged and
// does not keep the agent from starting.
func New(cfg Config) (*Agent, error) {
	if err := wire.ValidateDeviceID(cfg.Device); err != nil {
		return nil, err
	}
	if cfg.Timing == (Timing{}) {
		cfg.Timing = DefaultTiming()
	}
	a := &Agent{
		cfg: cfg, timing: cfg.Timing, log: cfg.Log.With("device", cfg.Device), started: time.Now().UTC(),
		look: make(chan struct{}, 1), reconcile: make(chan struct{}, 1), report: make(chan struct{}, 1),
		announce: make(chan struct{}, 1), beat: make(chan struct{}, 1),
	}
	if err := disk.Tidy(cfg.StateDir); err != nil {
		a.log.Warn("what interrupted writes left cannot be removed", "error", err)
	}
	var err error
	if a.keys, err = newKeyring(cfg.Keys, cfg.StateDir, a.log, func() { signal(a.announce) }); err != nil {
		return nil, err
	}
	if a.nonces, err = disk.OpenNonces(cfg.StateDir); err != nil {
		a.log.Warn("nonces of earlier commands are lost", "error", err)
	}
	a.load()
	return a, nil
}

// Run works until ctx ends, then tells the fleet what it can and leaves all
// containers running. It returns nil when it was ctx that ended it.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.pulse = newPulse(a.cfg.Supervisor, "reconcile", "sync", "report")

	link, err := a.cfg.Connect(ctx, a.onConnect)
	if err != nil {
		return err
	}
	a.link = link
	if err := a.subscribe(ctx); err != nil {
		return errors.Join(err, link.Close(ctx))
	}

	var loops sync.WaitGroup
	run := []func(context.Context){
		a.reconcileLoop, a.syncLoop, a.reportLoop, a.infoLoop, a.heartbeatLoop, a.pulse.loop,
	}
	if w, able := a.cfg.Engine.(Watcher); able {
		run = append(run, w.Watch)
	}
	if a.cfg.Metrics != nil {
		run = append(run, func(ctx context.Context) { exposition.Serve(ctx, a.cfg.Metrics, a.source(), a.log) })
	}
	for _, loop := range run {
		loops.Go(func() { loop(ctx) })
	}
	<-ctx.Done()
	a.cfg.Supervisor.Stopping()
	loops.Wait()
	a.cfg.Engine.Wait()

	last, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer done()
	if err := link.Close(last); err != nil {
		a.log.Warn("disconnect", "error", err)
	}
	return nil
}

// shutdownTimeout bounds what is sent after the agent was told to stop.
const shutdownTimeout = 3 * time.Second

// onConnect makes every loop look again: nobody knows what was missed.
func (a *Agent) onConnect() {
	a.figures.connects.Add(1)
	for _, ch := range []chan struct{}{a.look, a.report, a.announce, a.beat} {
		signal(ch)
	}
}

// reconcileLoop has the engine make passes. Its first pass is from disk and
// needs no network.
func (a *Agent) reconcileLoop(ctx context.Context) {
	tick := time.NewTicker(a.timing.Tick)
	defer tick.Stop()
	retry := backoff{first: time.Second, last: a.timing.Tick}
	for ready := false; ctx.Err() == nil; {
		begun := time.Now()
		err := a.cfg.Engine.Reconcile(ctx)
		if ctx.Err() != nil {
			return
		}
		a.figures.pass(time.Since(begun))
		a.setFault(func(f *faults) *error { return &f.engine }, err)
		a.pulse.beat("reconcile")
		if !ready {
			ready = true
			a.cfg.Supervisor.Ready()
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-a.cfg.Engine.Again():
		case <-a.reconcile:
		case <-retry.after(err):
		}
	}
}

// setFault records what keeps the device from its work, or that nothing does,
// and reports it if that is news.
func (a *Agent) setFault(which func(*faults) *error, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slot := which(&a.faults)
	if text(*slot) == text(err) {
		return
	}
	*slot = err
	if err != nil {
		a.log.Warn("device is held up", "error", err, "reason", wire.RefusalOf(err))
	}
	signal(a.report)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// signal makes ch receive once, however often it was signalled before.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
