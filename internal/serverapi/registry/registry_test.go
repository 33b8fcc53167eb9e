package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/internal/serverapi/registry/registrytest"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const patience = 10 * time.Second

var (
	now   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	later = now.Add(time.Hour)
)

func TestRegistry(t *testing.T) {
	r, kube := open(t)
	if !r.Denied("pi-1") {
		t.Error("an unknown id may connect")
	}
	a := registry.Request{Device: "pi-1", MachineID: "machine-a"}
	b := registry.Request{Device: "pi-1", MachineID: "machine-b"}
	enrol(t, r, a, now)
	if r.Denied("pi-1") {
		t.Error("an enrolled id may not connect")
	}
	if ok, err := r.Enrolled(a); !ok || err != nil {
		t.Errorf("enrolled: %v %v", ok, err)
	}
	if e := enrol(t, r, a, later); !e.Enrolled.Equal(now) {
		t.Error("enrolling again changed the entry")
	}
	if _, err := r.Enrol(t.Context(), b, later); !errors.Is(err, registry.ErrOtherMachine) {
		t.Fatalf("another machine took the id: %v", err)
	}
	if _, err := r.Enrolled(b); !errors.Is(err, registry.ErrOtherMachine) {
		t.Errorf("a preview for another machine: %v", err)
	}
	if _, err := r.Enrol(t.Context(), registry.Request{Device: "../x", MachineID: "machine-a"}, now); err == nil {
		t.Error("accepted an id that is none")
	}
	if _, err := r.Revoke(t.Context(), "pi-2", now); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("revoked an unknown id: %v", err)
	}
	if _, err := r.Revoke(t.Context(), "pi-1", later); err != nil {
		t.Fatal(err)
	}

	// Another process sees the same.
	other := follow(t, kube)
	if e, ok := other.Get("pi-1"); !ok || e.MachineID != "machine-a" || !e.Revoked.Equal(later) || !other.Denied("pi-1") {
		t.Errorf("elsewhere: %+v", e)
	}
	if _, err := other.Enrol(t.Context(), b, later); !errors.Is(err, registry.ErrOtherMachine) {
		t.Errorf("a revoked id went to another machine: %v", err)
	}
	b.Replace = true
	if e := enrol(t, other, b, later); e.MachineID != "machine-b" || !e.Revoked.IsZero() || !e.Enrolled.Equal(later) {
		t.Errorf("after replacing: %+v", e)
	}
}

// TestSubject: a user of the issuer is one device's, or nobody's.
func TestSubject(t *testing.T) {
	r, _ := open(t)
	enrol(t, r, registry.Request{Device: "pi-1", MachineID: "machine-a"}, now)
	if _, ok := r.BySubject(""); ok || r.Subject("pi-1") != "" {
		t.Error("a device without a user has one")
	}
	q := registry.Request{Device: "pi-1", MachineID: "machine-a", Subject: "4711"}
	if ok, _ := r.Enrolled(q); ok {
		t.Error("with a user there is nothing to do")
	}
	if e := enrol(t, r, q, later); e.Subject != "4711" || !e.Enrolled.Equal(now) {
		t.Errorf("with a user: %+v", e)
	}
	if id, ok := r.BySubject("4711"); !ok || id != "pi-1" || r.Subject("pi-1") != "4711" {
		t.Errorf("the user is %q's, %v", id, ok)
	}
	q.Subject = ""
	if e := enrol(t, r, q, later); e.Subject != "4711" {
		t.Errorf("a request without a user left %q", e.Subject)
	}
	enrol(t, r, registry.Request{Device: "pi-2", MachineID: "machine-b", Subject: "4711"}, now)
	if id, ok := r.BySubject("4711"); ok {
		t.Errorf("of two devices with one user it is %s's", id)
	}
	enrol(t, r, registry.Request{Device: "pi-2", MachineID: "machine-b", Subject: "4712"}, now)
	if id, _ := r.BySubject("4711"); id != "pi-1" {
		t.Errorf("the user is %q's again", id)
	}
	if e := enrol(t, r, registry.Request{Device: "pi-1", MachineID: "machine-c", Replace: true}, later); e.Subject != "" {
		t.Errorf("another machine has the user of the one before: %+v", e)
	}
}

func TestSealingKey(t *testing.T) {
	r, _ := open(t)
	q := registry.Request{Device: "pi-1", MachineID: "machine-a", SealingKey: "first"}
	enrol(t, r, q, now)
	q.SealingKey = ""
	if e := enrol(t, r, q, later); e.SealingKey != "first" {
		t.Errorf("a request without a key left %q", e.SealingKey)
	}
	q.SealingKey = "second"
	if ok, _ := r.Enrolled(q); ok {
		t.Error("with a new key there is nothing to do")
	}
	if e := enrol(t, r, q, later); e.SealingKey != "second" || !e.Enrolled.Equal(now) {
		t.Errorf("a new key: %+v", e)
	}
	if e := enrol(t, r, registry.Request{Device: "pi-1", MachineID: "machine-b", Replace: true}, later); e.SealingKey != "" {
		t.Errorf("another machine has the key of the one before: %+v", e)
	}
}

// Of many machines that want one id, through several servers, one gets it.
func TestOneMachineWins(t *testing.T) {
	one, kube := open(t)
	registries := []*registry.Registry{one, follow(t, kube)}
	var mu sync.Mutex
	var winners []string
	var had []registry.Entry // as the registry that was asked knows at once; the other hears of it
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			machine := fmt.Sprintf("machine-%d", i)
			_, err := registries[i%2].Enrol(t.Context(), registry.Request{Device: "pi-1", MachineID: machine}, now)
			e, _ := registries[i%2].Get("pi-1")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				winners, had = append(winners, machine), append(had, e)
			case !errors.Is(err, registry.ErrOtherMachine):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(winners) != 1 || winners[0] != had[0].MachineID {
		t.Errorf("%v were told that they have the id, which %+v has", winners, had)
	}
}

func TestUntilTheCopyIsThereNobodyIsLetIn(t *testing.T) {
	_, kube := open(t)
	r, err := registry.Open(t.Context(), kube.Unreachable())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.Synced(ctx); err == nil || !r.Denied("pi-1") {
		t.Errorf("synced without an API: %v", err)
	}
}

// links notes who was disconnected.
type links chan string

func (l links) Disconnect(_ context.Context, device string) error {
	l <- device
	return nil
}

func TestWhoMayNoLongerConnectIsDisconnected(t *testing.T) {
	r, kube := open(t)
	cut := make(links, 10)
	if err := r.Enforce(t.Context(), cut, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"revoked", "by-hand", "deleted", "stays"} {
		enrol(t, r, registry.Request{Device: id, MachineID: "m"}, now)
	}
	next := func(want string) {
		t.Helper()
		select {
		case got := <-cut:
			if got != want {
				t.Errorf("%s was disconnected, not %s", got, want)
			}
		case <-time.After(patience):
			t.Errorf("%s was not disconnected", want)
		}
	}
	if _, err := r.Revoke(t.Context(), "revoked", later); err != nil {
		t.Fatal(err)
	}
	next("revoked")
	d := get(t, kube, "by-hand")
	d.Spec.Revoked = &metav1.Time{Time: later}
	if err := kube.Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	next("by-hand")
	if err := kube.Delete(t.Context(), get(t, kube, "deleted")); err != nil {
		t.Fatal(err)
	}
	next("deleted") // its finalizer is still there: after the farewell
	if !r.Denied("deleted") || r.Denied("stays") {
		t.Error("the wrong device is let in")
	}
	d = get(t, kube, "deleted")
	d.Finalizers = nil
	if err := kube.Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	next("deleted") // once more, now that it is gone
	if e := enrol(t, r, registry.Request{Device: "deleted", MachineID: "another"}, later); e.MachineID != "another" {
		t.Errorf("the id that became free: %+v", e)
	}
}

func TestMigrate(t *testing.T) {
	r, kube := open(t)
	dir := filepath.Join(t.TempDir(), "registry")
	if n, err := registry.Migrate(t.Context(), kube, dir); n != 0 || err != nil {
		t.Errorf("without a directory: %d %v", n, err)
	}
	if err := secretfile.EnsureDir(dir); err != nil {
		t.Fatal(err)
	}
	write := func(id, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, id+".json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("pi-1", `{"schemaVersion":1,"device":"pi-1","machineId":"a","enrolled":"2026-11-23T12:00:00Z"}`)
	write("pi-2", `{"schemaVersion":1,"device":"pi-2","machineId":"b","enrolled":"2026-11-23T12:00:00Z","revoked":"2026-11-23T13:00:00Z"}`)
	// The operator of an older server made objects of what had reported.
	if err := kube.Create(t.Context(), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: "pi-1", Labels: map[string]string{"site": "lyon"}},
		Spec: v1alpha1.DeviceSpec{MachineID: "a"}}); err != nil {
		t.Fatal(err)
	}
	// One that was enrolled since is newer than its file.
	enrol(t, r, registry.Request{Device: "pi-3", MachineID: "new"}, now)
	write("pi-3", `{"device":"pi-3","machineId":"old","enrolled":"2026-11-23T11:00:00Z"}`)

	for _, damaged := range []string{"", "{", `{"device":"pi-2"}`} {
		write("pi-4", damaged)
		if _, err := registry.Migrate(t.Context(), kube, dir); err == nil {
			t.Errorf("took %q", damaged)
		}
	}
	if err := os.Remove(filepath.Join(dir, "pi-4.json")); err != nil {
		t.Fatal(err)
	}
	if n, err := registry.Migrate(t.Context(), kube, dir); n != 3 || err != nil {
		t.Fatalf("migrated %d: %v", n, err)
	}
	r = follow(t, kube)
	if e, _ := r.Get("pi-1"); e.MachineID != "a" || !e.Enrolled.Equal(now) || r.Denied("pi-1") {
		t.Errorf("pi-1: %+v", e)
	}
	if get(t, kube, "pi-1").Labels["site"] != "lyon" {
		t.Error("the labels are gone")
	}
	if e, _ := r.Get("pi-2"); !e.Revoked.Equal(later) || !r.Denied("pi-2") {
		t.Errorf("the revoked device came back: %+v", e)
	}
	if e, _ := r.Get("pi-3"); e.MachineID != "new" {
		t.Errorf("pi-3: %+v", e)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func open(t *testing.T) (*registry.Registry, *registrytest.Kube) {
	t.Helper()
	kube := registrytest.NewKube()
	return follow(t, kube), kube
}

func follow(t *testing.T, kube *registrytest.Kube) *registry.Registry {
	t.Helper()
	r, err := kube.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func enrol(t *testing.T, r *registry.Registry, q registry.Request, at time.Time) registry.Entry {
	t.Helper()
	e, err := r.Enrol(t.Context(), q, at)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func get(t *testing.T, kube client.Client, id string) *v1alpha1.Device {
	t.Helper()
	d := &v1alpha1.Device{}
	if err := kube.Get(t.Context(), client.ObjectKey{Name: id}, d); err != nil {
		t.Fatal(err)
	}
	return d
}
