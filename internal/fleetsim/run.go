package fleetsim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// connect enrols and connects every device.
func (f *fleet) connect(run context.Context) error {
	return f.each(run, "devices connected", connecting, func(ctx context.Context, d *device) error {
		e, err := d.enrol(ctx)
		if err != nil {
			return err
		}
		return d.connect(run, e) // the connection outlasts this step
	})
}

// awaitDevices waits until the operator has made an object of each device.
func (f *fleet) awaitDevices(ctx context.Context) error {
	return f.poll(ctx, "devices registered", func() (int, error) {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("DeviceList"))
		err := f.Kube.List(ctx, list, client.HasLabels{Label})
		return len(list.Items), err
	})
}

// patience is how long a fleet of this size may take for one step.
func (f *fleet) patience() time.Duration {
	return settleLimit + time.Duration(len(f.devices))*50*time.Millisecond
}

// poll asks until all devices are counted.
func (f *fleet) poll(ctx context.Context, phase string, count func() (int, error)) error {
	ctx, cancel := context.WithTimeout(ctx, f.patience())
	defer cancel()
	for {
		began := time.Now()
		n, err := count()
		if err != nil {
			return fmt.Errorf("%s: %w", phase, err)
		}
		f.Progress(phase, n, len(f.devices))
		if n >= len(f.devices) {
			return nil
		}
		// Asking about a large fleet is a load of its own: it is a twentieth of the time.
		if !sleepUntil(ctx, time.Now().Add(max(500*time.Millisecond, 20*time.Since(began)))) {
			return fmt.Errorf("%s: %d of %d: %w", phase, n, len(f.devices), ctx.Err())
		}
	}
}

func (f *fleet) deployment(g *group) *v1alpha1.Deployment {
	return &v1alpha1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: g.name, Namespace: f.Namespace, Labels: map[string]string{Label: g.name}},
		Spec: v1alpha1.DeploymentSpec{
			TargetSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{Label: v1alpha1.LabelValue(g.name)}},
			Score:          v1alpha1.Score{Type: wire.ScorePodmanV0, Data: v1alpha1.ScoreData{Services: []v1alpha1.Service{{Name: "app", Image: "registry.invalid/bench:v1"}}}},
		},
	}
}

// deploy makes the Deployments and waits until each device has its work.
func (f *fleet) deploy(ctx context.Context) error {
	err := forEach(ctx, f.groups, enrolling, func(done int) { f.Progress("deployments made", done, len(f.groups)) }, func(ctx context.Context, g *group) error {
		err := f.Kube.Create(ctx, f.deployment(g))
		if apierrors.IsAlreadyExists(err) {
			return nil // of a run that was cut off
		}
		return err
	})
	if err != nil {
		return err
	}
	return f.poll(ctx, "devices told", func() (int, error) {
		told := 0
		for _, d := range f.devices {
			d.mu.Lock()
			if d.work[d.group.name] != nil {
				told++
			}
			d.mu.Unlock()
		}
		return told, nil
	})
}

// load writes states at the rate asked for, each device at most one at a time.
func (f *fleet) load(ctx context.Context) error {
	workers := min(len(f.devices), 1024)
	pause := time.Duration(float64(workers) / float64(f.Rate) * float64(time.Second))
	loading, stop := context.WithTimeout(ctx, f.Duration)
	defer stop()
	go func() {
		select {
		case <-f.Stop:
			stop()
		case <-loading.Done():
		}
	}()
	var writes atomic.Int64
	var all sync.WaitGroup
	began, server, own := time.Now(), f.ServerUse().CPU, ownCPU()
	for w := range workers {
		all.Go(func() {
			next := began.Add(pause * time.Duration(w) / time.Duration(workers))
			for i := w; ; i = (i + workers) % len(f.devices) {
				if !sleepUntil(loading, next) {
					return
				}
				next = next.Add(pause)
				// A write that began is waited for: its end belongs to the figures.
				if err := f.devices[i].report(ctx); err != nil {
					f.failed(ctx, err)
				} else {
					writes.Add(1)
				}
			}
		})
	}
	all.Go(func() { f.change(loading) })
	all.Go(func() { f.watch(loading, &writes) })
	all.Wait()
	f.result.Load = time.Since(began)
	f.result.ServerCPU, f.result.OwnCPU = f.ServerUse().CPU-server, ownCPU()-own
	f.result.Writes = writes.Load()
	f.result.Connections = len(f.devices)
	f.result.WriteP99 = f.acks.quantile(0.99)
	return ctx.Err()
}

// watch tells how far the load is and what the server holds.
func (f *fleet) watch(ctx context.Context, writes *atomic.Int64) {
	for tick := time.NewTicker(time.Second); ; {
		f.result.ServerRSS = max(f.result.ServerRSS, f.ServerUse().Resident)
		f.Progress(PhaseLoad, int(writes.Load()), int(float64(f.Rate)*f.Duration.Seconds()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ownCPU is the processor time of this process, from getrusage(2).
func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// change edits one Deployment after the other while the load runs, so that
// the time to the hint is that of a busy server.
func (f *fleet) change(ctx context.Context) {
	began := time.Now().Unix() // other images than those of a run before, which may have kept its Deployments
	for n := 0; sleepUntil(ctx, time.Now().Add(200*time.Millisecond)); n++ {
		g := f.groups[n%len(f.groups)]
		if last := g.change.Load(); last != nil && last.missing.Load() > 0 {
			continue
		}
		c := &change{at: time.Now()}
		c.missing.Store(int64(len(g.devices)))
		g.change.Store(c)
		patch := fmt.Appendf(nil, `{"spec":{"score":{"data":{"services":[{"name":"app","image":"registry.invalid/bench:v%d-%d"}]}}}}`, n+2, began)
		if err := f.Kube.Patch(ctx, f.deployment(g), client.RawPatch("application/merge-patch+json", patch)); err != nil {
			g.change.Store(nil)
			f.failed(ctx, err)
		}
	}
}

// settle has each device that is behind look and report again, as an agent's
// slow timer does, until none is.
func (f *fleet) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	return f.each(ctx, "devices settled", connecting, func(ctx context.Context, d *device) error {
		for {
			again, err := d.look(ctx)
			if err == nil && d.isBehind() {
				err = d.report(ctx)
			}
			if err == nil && !again {
				return nil
			}
			if err != nil {
				f.failed(ctx, err)
			}
			if !sleepUntil(ctx, time.Now().Add(time.Second)) {
				return fmt.Errorf("device %s is behind: %w", d.id, err)
			}
		}
	})
}

// failed counts an error that a device would get over.
func (f *fleet) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // we are the cause
	}
	f.acks.mu.Lock()
	defer f.acks.mu.Unlock()
	f.result.Errors++
	if f.result.FirstError == "" {
		f.result.FirstError = err.Error()
	}
}

// remove takes away what the run made. A device is shut out and its object
// deleted; its id stays with its machine, for the next run.
func (f *fleet) remove(ctx context.Context) error {
	errs := []error{f.Kube.DeleteAllOf(ctx, &v1alpha1.Deployment{}, client.InNamespace(f.Namespace), client.HasLabels{Label})}
	errs = append(errs, f.each(ctx, "devices removed", enrolling, func(ctx context.Context, d *device) error {
		if !d.enrolled() {
			return nil
		}
		if d.link != nil {
			_ = d.link.Close(ctx) // it may be cut already: nothing is lost
		}
		object := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: d.id}}
		return errors.Join(f.Revoke(ctx, d.id), client.IgnoreNotFound(f.Kube.Delete(ctx, object)))
	}))
	return errors.Join(errs...)
}

// sleepUntil returns false when ctx ended first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
