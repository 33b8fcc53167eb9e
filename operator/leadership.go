package operator

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/nationtech/fleetctl/internal/hint"
)

// leadership is how long this operator may write without asking: until the
// Lease that it holds could have run out, by its own clocks. A process that was
// stopped, or a machine that slept, wakes in the middle of what it did, before
// its election notices; whatever it still wants to write then is refused here.
// Between this check and the write a process can be stopped too: the store
// refuses a key that somebody else wrote since (kv.ErrConflict), and what was
// overwritten nevertheless is found by the new leader's audit.
type leadership struct {
	lasts time.Duration // of the Lease
	now   func() time.Time

	mu    sync.Mutex
	until time.Time // zero: it does not lead
	wall  time.Time // the same by the wall clock alone, which goes on while a machine sleeps
}

// errNotLeading says that another operator may lead by now.
var errNotLeading = hint.Wrap(errors.New("this operator may not lead any more: its lease could not be renewed in time"),
	"it ends, and starts again as one that stands by; if that repeats, see whether the Kubernetes API answers in time")

// check is nil while this operator leads. A nil leadership is of one that is
// alone.
func (l *leadership) check() error {
	if l == nil {
		return nil
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !now.Before(l.until) || !now.Round(0).Before(l.wall) {
		return errNotLeading
	}
	return nil
}

// renewed notes a renewal that was sent at that time: other operators count from
// when they saw it, which was later.
func (l *leadership) renewed(sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until, l.wall = sent.Add(l.lasts), sent.Round(0).Add(l.lasts)
}

func (l *leadership) ended() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until, l.wall = time.Time{}, time.Time{}
}

// lock tells the leadership what becomes of the Lease.
type lock struct {
	resourcelock.Interface
	leads *leadership
}

// Create implements resourcelock.Interface.
func (k lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return k.note(r, func() error { return k.Interface.Create(ctx, r) })
}

// Update implements resourcelock.Interface.
func (k lock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return k.note(r, func() error { return k.Interface.Update(ctx, r) })
}

func (k lock) note(r resourcelock.LeaderElectionRecord, write func() error) error {
	sent := k.leads.now()
	if r.HolderIdentity != k.Identity() {
		k.leads.ended() // before others may take it
		return write()
	}
	err := write()
	if err == nil {
		k.leads.renewed(sent)
	}
	return err
}

// elect gives the lock of an election and what follows from it.
func elect(config *rest.Config, e *LeaderElection, t Timing) (lock, error) {
	leads := &leadership{lasts: t.LeaseDuration, now: time.Now}
	inner, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, e.Namespace, leaseName,
		resourcelock.ResourceLockConfig{Identity: e.Identity}, config, t.renewDeadline())
	return lock{inner, leads}, err
}

// fenced refuses to send changes of anything but the Lease itself while the
// operator does not lead.
func (l *leadership) fenced(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodGet && !strings.HasPrefix(r.URL.Path, "/apis/coordination.k8s.io/") {
			if err := l.check(); err != nil {
				return nil, err
			}
		}
		return next.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// fencedStore writes while the operator leads.
type fencedStore struct {
	Store
	leads *leadership
}

// PutManifest implements DesiredStore.
func (s fencedStore) PutManifest(ctx context.Context, device string, sealed []byte, after uint64) (uint64, error) {
	if err := s.leads.check(); err != nil {
		return 0, err
	}
	return s.Store.PutManifest(ctx, device, sealed, after)
}

// PutDesired implements DesiredStore.
func (s fencedStore) PutDesired(ctx context.Context, device, deployment string, data []byte, after uint64) (uint64, error) {
	if err := s.leads.check(); err != nil {
		return 0, err
	}
	return s.Store.PutDesired(ctx, device, deployment, data, after)
}

// Delete implements DesiredStore.
func (s fencedStore) Delete(ctx context.Context, device, deployment string, revision uint64) error {
	if err := s.leads.check(); err != nil {
		return err
	}
	return s.Store.Delete(ctx, device, deployment, revision)
}

// ForgetDevice implements ReportStore.
func (s fencedStore) ForgetDevice(ctx context.Context, device string) error {
	if err := s.leads.check(); err != nil {
		return err
	}
	return s.Store.ForgetDevice(ctx, device)
}
