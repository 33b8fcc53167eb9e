package operator

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/nationtech/fleetctl/operator/memstore"
)

// lease is a Lease that can be written, or not.
type lease struct {
	resourcelock.Interface
	fault  error
	during func()
}

func (l *lease) Identity() string { return "me" }

func (l *lease) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	if l.during != nil {
		l.during()
	}
	return l.fault
}

func (l *lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.Update(ctx, r)
}

// A leader may write for as long as its Lease lasts, counted from when it asked.
func TestLeadershipEndsWithTheLease(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	leads := &leadership{lasts: 15 * time.Second, now: func() time.Time { return now }}
	api := &lease{}
	k := lock{api, leads}
	mine, theirs := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}, resourcelock.LeaderElectionRecord{}
	leading := func(want bool) {
		t.Helper()
		if err := leads.check(); (err == nil) != want {
			t.Fatalf("leads: %v, want %v", err, want)
		}
	}
	leading(false)
	if err := k.Create(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	leading(true)
	now = now.Add(15 * time.Second)
	leading(false)

	api.during = func() { now = now.Add(10 * time.Second) } // the answer took so long
	if err := k.Update(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	leading(true)
	now = now.Add(5 * time.Second)
	leading(false)

	api.during = nil
	if err := k.Update(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	api.fault = errors.New("no answer")
	if err := k.Update(t.Context(), mine); err == nil {
		t.Fatal("no error")
	}
	leading(true) // by the renewal before
	api.during = func() { leading(false) }
	_ = k.Update(t.Context(), theirs) // a release: others may lead at once
	leading(false)
}

// Who does not lead changes nothing, in the store and in the API.
func TestWhoDoesNotLeadWritesNothing(t *testing.T) {
	leads := &leadership{lasts: time.Minute, now: time.Now}
	store := memstore.New()
	fenced := fencedStore{store, leads}
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests++ }))
	defer server.Close()
	client := &http.Client{Transport: leads.fenced(http.DefaultTransport)}
	try := func() (errs []error) {
		_, desired := fenced.PutDesired(t.Context(), "pi-1", "web", nil, 0)
		_, manifest := fenced.PutManifest(t.Context(), "pi-1", nil, 0)
		errs = []error{desired, manifest, fenced.Delete(t.Context(), "pi-1", "web", 9), fenced.ForgetDevice(t.Context(), "pi-1")}
		for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodDelete} {
			request, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/apis/fleet.nationtech.io/v1alpha1/devices/pi-1", nil)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := client.Do(request)
			if err == nil {
				err = answer.Body.Close()
			}
			errs = append(errs, err)
		}
		return errs
	}
	for i, err := range try() {
		if !errors.Is(err, errNotLeading) {
			t.Errorf("change %d: %v", i, err)
		}
	}
	if len(store.Writes()) > 0 || requests > 0 {
		t.Errorf("%v were written, %d requests sent", store.Writes(), requests)
	}
	for _, path := range []string{"/apis/fleet.nationtech.io/v1alpha1/devices", "/apis/coordination.k8s.io/v1/namespaces/x/leases/y"} {
		answer, err := client.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
	leads.renewed(time.Now())
	for i, err := range try() {
		if err != nil {
			t.Errorf("change %d of a leader: %v", i, err)
		}
	}
}
