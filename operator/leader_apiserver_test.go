//go:build apiserver

package operator_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/operator"
	"github.com/nationtech/fleetctl/operator/memstore"
	"github.com/nationtech/fleetctl/operator/operatortest"
)

// TestALeaderThatSlept stops an operator in the middle of a write, as SIGSTOP
// does: what it had begun to write comes to the store after its successor's, and
// must not be taken.
func TestALeaderThatSlept(t *testing.T) {
	f := newFleet(t)
	sleeper := &sleeper{Store: f.store, caught: make(chan struct{}), awake: make(chan struct{})}
	config := operatortest.Config(f)
	config.Wrap(sleeper.transport)
	first := f.operator(config, sleeper, &operator.LeaderElection{Namespace: "fleet-system", Identity: "sleeper"})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	select {
	case <-first.Ready():
	case <-time.After(deadline):
		t.Fatal("the operator is not ready")
	}
	f.device("pi-1", map[string]string{"site": "lyon"})
	d := f.deploy("default", "hello", "nginx:1", labels{"site": "lyon"})
	f.wantTold("pi-1: hello")

	image := func(name string) {
		t.Helper()
		f.patch(d, `{"spec":{"score":{"data":{"services":[{"name":"app","image":"`+name+`"}]}}}}`)
	}
	stored := func(name string) {
		t.Helper()
		f.eventually("the store has "+name, func() string {
			return map[bool]string{false: "another one"}[strings.Contains(string(f.store.Snapshot()["pi-1.hello"]), name)]
		})
	}
	sleeper.fallAsleep()
	image("nginx:2")
	select {
	case <-sleeper.caught:
	case <-time.After(deadline):
		t.Fatal("it wrote nothing")
	}
	second, stop := f.run(&operator.LeaderElection{Namespace: "fleet-system", Identity: "successor"})
	defer stop()
	select {
	case <-second.Ready():
	case <-time.After(deadline):
		t.Fatal("nobody took over")
	}
	image("nginx:3")
	stored("nginx:3")
	f.wantTold("pi-1: hello")
	before := f.store.Snapshot()

	close(sleeper.awake)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended as if nothing had been")
		}
	case <-time.After(deadline):
		t.Fatal("it thinks that it still leads")
	}
	sleeper.mu.Lock()
	defer sleeper.mu.Unlock()
	if len(sleeper.answers) == 0 || !errors.Is(sleeper.answers[0], kv.ErrConflict) {
		t.Errorf("what it had begun to write was answered with %v", sleeper.answers)
	}
	for _, err := range sleeper.answers[1:] {
		if err == nil {
			t.Error("it wrote on")
		}
	}
	if after := f.store.Snapshot(); !maps.EqualFunc(before, after, func(a, b []byte) bool { return string(a) == string(b) }) {
		t.Errorf("the store was %q, is %q", before, after)
	}
}

// sleeper is the store of an operator that is stopped at its next write, and what
// lies between it and the API server.
type sleeper struct {
	*memstore.Store
	caught chan struct{}
	awake  chan struct{}

	mu      sync.Mutex
	sleeps  bool
	once    sync.Once
	answers []error // to writes since then
}

func (s *sleeper) fallAsleep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sleeps = true
}

func (s *sleeper) asleep() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sleeps
}

// PutDesired implements operator.DesiredStore.
func (s *sleeper) PutDesired(ctx context.Context, device, deployment string, data []byte, after uint64) (uint64, error) {
	if !s.asleep() {
		return s.Store.PutDesired(ctx, device, deployment, data, after)
	}
	s.once.Do(func() { close(s.caught) })
	<-s.awake
	revision, err := s.Store.PutDesired(ctx, device, deployment, data, after)
	s.note(err)
	return revision, err
}

// PutManifest implements operator.DesiredStore.
func (s *sleeper) PutManifest(ctx context.Context, device string, sealed []byte, after uint64) (uint64, error) {
	revision, err := s.Store.PutManifest(ctx, device, sealed, after)
	if s.asleep() {
		s.note(err)
	}
	return revision, err
}

func (s *sleeper) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, err)
}

// transport holds what is sent while it sleeps.
func (s *sleeper) transport(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		select {
		case <-s.caught:
			<-s.awake
		default:
		}
		return next.RoundTrip(r)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
