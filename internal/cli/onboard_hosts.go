package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/localhost"
	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/internal/hint"
)

// hostsOptions are what onboard and offboard share: which hosts, how they are
// reached, and how far to go.
type hostsOptions struct {
	sshFlags
	targets  []string
	local    bool
	plan     bool
	yes      bool
	parallel int
}

func (o *hostsOptions) register(flags *pflag.FlagSet) {
	o.sshFlags.register(flags)
	flags.BoolVar(&o.local, "local", false, "this machine instead of hosts over SSH")
	flags.BoolVar(&o.plan, "plan", false, "show what would change and stop; exit code 3 if anything would")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	flags.IntVar(&o.parallel, "parallel", 16, "`number` of hosts at a time")
}

// hostTargets are the hosts of the arguments; "" is this machine.
func (o *hostsOptions) hostTargets() ([]string, error) {
	switch {
	case o.local && len(o.targets) > 0:
		return nil, usageError(errors.New("--local is this machine; it takes no hosts"), "leave out one of them")
	case o.local && os.Geteuid() != 0:
		return nil, hint.WithCode(hint.New("--local changes this machine, which needs root", "run it with sudo"), hint.CodeUsage)
	case o.local:
		return []string{""}, nil
	case len(o.targets) == 0:
		return nil, usageError(errors.New("no host was named"), "name it as [USER@]HOST[:PORT], or this machine with --local")
	}
	return o.targets, nil
}

// hostJob is one host on its way through a run.
type hostJob struct {
	index   int
	name    string // as it was typed
	device  string // "" until known
	host    hostcfg.Host
	plan    *hostcfg.Plan
	outcome *hostcfg.Outcome
	err     error
	close   func() error
	took    time.Duration // in all phases, questions to the person not counted
}

// hostRun takes several hosts through the same phases at the same time. A host
// that fails drops out and leaves the others alone.
type hostRun struct {
	factory  *Factory
	jobs     []*hostJob
	parallel int
	progress *progress
}

// connect reaches the hosts. A target that cannot be parsed is an error; a
// host that cannot be reached is its job's.
func (o *hostsOptions) connect(ctx context.Context, f *Factory, targets []string) (*hostRun, error) {
	if o.parallel < 1 {
		return nil, usageError(fmt.Errorf("--parallel %d: at least one host at a time", o.parallel), "leave it out for 16")
	}
	run := &hostRun{factory: f, parallel: o.parallel, progress: newProgress(f)}
	parsed := make([]sshhost.Target, len(targets))
	for i, t := range targets {
		name := "localhost"
		if t != "" {
			var err error
			if parsed[i], err = sshhost.ParseTarget(t); err != nil {
				return nil, usageError(err, "name hosts as [USER@]HOST[:PORT]")
			}
			name = t
		}
		if slices.ContainsFunc(run.jobs, func(j *hostJob) bool { return j.name == name }) {
			return nil, usageError(fmt.Errorf("host %s is listed twice", name), "list every host once")
		}
		run.jobs = append(run.jobs, &hostJob{index: i, name: name, close: func() error { return nil }})
	}
	var options sshhost.Options
	if !o.local {
		var err error
		if options, err = o.options(f); err != nil {
			return nil, err
		}
	}
	run.each(ctx, "connecting", func(ctx context.Context, j *hostJob) error {
		if targets[j.index] == "" {
			j.host = localhost.New(f.Log())
			return nil
		}
		h, err := sshhost.Dial(ctx, parsed[j.index], options)
		if err != nil {
			return err
		}
		j.host, j.close = h, h.Close
		return nil
	})
	return run, nil
}

// each runs a phase on every host that has not failed, and waits for all.
func (r *hostRun) each(ctx context.Context, phase string, fn func(context.Context, *hostJob) error) {
	var g errgroup.Group
	g.SetLimit(r.parallel)
	r.progress.begin(r.jobs)
	for _, j := range r.jobs {
		if j.err != nil {
			continue
		}
		g.Go(func() error {
			r.progress.set(j, phase)
			began := time.Now()
			j.err = fn(ctx, j)
			j.took += time.Since(began)
			r.progress.clear(j)
			return nil
		})
	}
	_ = g.Wait() // the functions give no error, their jobs do
	r.progress.end()
}

// apply carries out a host's plan and shows each step.
func (r *hostRun) apply(ctx context.Context, j *hostJob) (err error) {
	j.outcome, err = j.plan.Apply(ctx, j.host, hostcfg.ApplyOptions{
		Log:    r.factory.Log(),
		OnStep: func(e hostcfg.StepEvent) { r.progress.step(j, e) },
	})
	return err
}

// refuseDuplicates fails hosts that would become the same device.
func (r *hostRun) refuseDuplicates() {
	first := map[string]*hostJob{}
	for _, j := range r.jobs {
		if j.err != nil {
			continue
		}
		if other, taken := first[j.device]; taken {
			j.err = hint.WithCode(hint.New(fmt.Sprintf("%s and %s would both be device %s", other.name, j.name, j.device),
				"give each an id of its own, with --device-id or in a file for -f"), hint.CodeUsage)
			continue
		}
		first[j.device] = j
	}
}

func (r *hostRun) close() {
	for _, j := range r.jobs {
		if err := j.close(); err != nil {
			r.factory.Log().Debug("close connection", "host", j.name, "error", err)
		}
	}
}

// changing counts the hosts whose plan does something, and its steps.
func (r *hostRun) changing() (hosts, steps int) {
	for _, j := range r.jobs {
		if j.err == nil && j.plan.Changed() {
			hosts++
			steps += j.plan.ChangeCount()
		}
	}
	return hosts, steps
}
