package podman

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Limits on what happens at the same time. Stopping has none: it is waiting.
const (
	maxSteps = 4 // creating, starting, removing
	maxPulls = 2
)

// Config is what a Runtime needs.
type Config struct {
	Client             *Client
	InsecureRegistries []string // HOST[:PORT] that may be spoken to in plain HTTP
	Runs               Runs
	Images             Images
	Intents            Intents
	Vault              Vault
	PreloadDir         string // archives of images; optional
	Space              Space  // optional
	MemoryEvents       string // memory.events of a cgroup that all containers are below; optional
	Log                *slog.Logger
}

// Intents remembers which services a person stopped. agent/disk implements it.
type Intents interface {
	Stopped(service string) bool
	SetStopped(service string, stopped bool) error
}

// Runs remembers across reboots which containers ran. agent/disk implements it.
type Runs interface {
	Started(container string) error
	Ended(container string) error
	Forget(container string) error
	Interrupted(container string) bool
}

// Runtime keeps the containers of all deployments as they should be.
type Runtime struct {
	client   *Client
	insecure map[string]bool
	runs     Runs
	images   Images
	intents  Intents
	vault    Vault
	space    Space
	ooms     oomKills
	checker  *http.Client
	log      *slog.Logger
	steps    chan struct{}
	pulls    chan struct{}
	changed  chan struct{}
	again    chan struct{}

	group sync.WaitGroup // workers at work

	created, started, exited, repaired atomic.Uint64

	mu          sync.Mutex
	set         bool // Set was called: until then nothing is touched
	deployments map[string]*deployment
	workers     map[key]*worker
	fault       error // why the last pass could not look

	networkKnown, pasta bool // what connects rootless containers
	warning             string
	configs             map[string]*Image // by id

	preloadDir  string
	preloading  sync.Mutex
	preloaded   map[string]string // version by path
	houseLooked time.Time         // used by Reconcile only
}

// deployment is one desired deployment.
type deployment struct {
	uid        string
	generation int64
	order      []key
	wants      map[key]*want
	fault      error // its score cannot be used; its containers stay as they are
}

// New makes a Runtime. It does nothing until Set and Reconcile.
func New(cfg Config) *Runtime {
	r := &Runtime{
		client:      cfg.Client,
		insecure:    map[string]bool{},
		runs:        cfg.Runs,
		images:      cfg.Images,
		intents:     cfg.Intents,
		vault:       cfg.Vault,
		space:       cfg.Space,
		ooms:        oomKills{file: cfg.MemoryEvents},
		checker:     newChecker(),
		preloadDir:  cfg.PreloadDir,
		preloaded:   map[string]string{},
		configs:     map[string]*Image{},
		log:         cfg.Log,
		steps:       make(chan struct{}, maxSteps),
		pulls:       make(chan struct{}, maxPulls),
		changed:     make(chan struct{}, 1),
		again:       make(chan struct{}, 1),
		deployments: map[string]*deployment{},
		workers:     map[key]*worker{},
	}
	for _, host := range cfg.InsecureRegistries {
		r.insecure[host] = true
	}
	return r
}

// Set replaces what is desired. A deployment that is in neither states nor
// keep is removed by the passes that follow; those in keep are left as they
// are, since it is not known what they should be.
func (r *Runtime) Set(states []wire.DesiredState, keep []string) {
	next := make(map[string]*deployment, len(states)+len(keep))
	for _, name := range keep {
		next[name] = &deployment{fault: errUnknownState}
	}
	for _, s := range states {
		next[s.Deployment] = r.plan(s)
	}
	r.mu.Lock()
	r.deployments, r.set = next, true
	r.mu.Unlock()
	signal(r.changed)
}

// Changed receives after a state that States gives has changed.
func (r *Runtime) Changed() <-chan struct{} { return r.changed }

// Again receives when a pass is due before the next tick: after a wait or a
// failure is over.
func (r *Runtime) Again() <-chan struct{} { return r.again }

// Version gives Podman's version.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	v, err := r.client.Version(ctx)
	return v.Version, err
}

// Counts is what was done to containers since the agent started: made, started,
// ended by themselves or by others, brought back after somebody changed them.
func (r *Runtime) Counts() (created, started, exited, repaired uint64) {
	return r.created.Load(), r.started.Load(), r.exited.Load(), r.repaired.Load()
}

// Reconcile makes one pass: it looks at all our containers and sets a worker
// to each service. It returns once the workers are at work, not when they are
// done, and does nothing before the first Set.
func (r *Runtime) Reconcile(ctx context.Context) error {
	r.mu.Lock()
	ready := r.set
	r.mu.Unlock()
	if !ready {
		return nil
	}
	r.ooms.look()
	list, err := r.client.List(ctx, labelManaged+"=true")
	if err == nil {
		r.housekeep(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if changed := (err == nil) != (r.fault == nil); changed {
		signal(r.changed)
	}
	r.fault = err
	if err != nil {
		return fmt.Errorf("look at containers: %w", err)
	}
	for _, c := range list {
		if k, ours := keyOf(c.Labels); ours {
			w := r.worker(k)
			w.exists = true
			if w.uid == "" {
				w.uid = c.Labels[labelUID]
			}
		}
	}
	for _, d := range r.deployments {
		for _, k := range d.order {
			r.worker(k)
		}
	}
	for k, w := range r.workers {
		if r.kept(k) {
			continue
		}
		r.dispatch(ctx, w)
	}
	return nil
}

// Wait returns when no worker is at work; they stop early when the context
// that was given to Reconcile ends.
func (r *Runtime) Wait() { r.group.Wait() }

func (r *Runtime) worker(k key) *worker {
	w := r.workers[k]
	if w == nil {
		w = &worker{key: k, state: wire.ServiceState{Name: k.service, Phase: wire.PhasePending}}
		r.workers[k] = w
	}
	return w
}

// kept says that the containers of k stay as they are.
func (r *Runtime) kept(k key) bool {
	d := r.deployments[k.deployment]
	return d != nil && d.fault != nil
}

// wanted gives what k should be now, nil for gone.
func (r *Runtime) wanted(k key) *want {
	d := r.deployments[k.deployment]
	if d == nil {
		return nil
	}
	w := d.wants[k]
	if w == nil || !r.intents.Stopped(k.String()) {
		return w
	}
	stopped := *w
	stopped.stopped = true
	return &stopped
}

// dispatch sets the worker going unless it is, or is waiting out a failure of
// the same specification. r.mu is held.
func (r *Runtime) dispatch(ctx context.Context, w *worker) {
	if w.busy {
		w.look = true
		return
	}
	target := hashOf(r.wanted(w.key))
	if target != w.target {
		w.target, w.failures, w.crashes, w.notBefore = target, 0, 0, time.Time{}
		r.setState(w, wire.PhasePending, "waiting") // what is known is about another specification
	}
	if time.Now().Before(w.notBefore) || ctx.Err() != nil {
		return
	}
	w.busy, w.look = true, false
	r.group.Go(func() { r.run(ctx, w) })
}

func hashOf(w *want) string {
	if w == nil {
		return ""
	}
	return w.hash
}

// signal makes ch receive once, however often it was signalled before.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
