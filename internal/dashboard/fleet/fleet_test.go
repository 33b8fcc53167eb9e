package fleet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func device(name string, ready bool, labels map[string]string) *v1alpha1.Device {
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHeartbeat}
	if !ready {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonHeartbeatMissed, "no heartbeat"
	}
	d.Status.Conditions = []metav1.Condition{c}
	return d
}

func in(site string) map[string]string { return map[string]string{"site": site} }

func names(found fleet.Found[*fleet.Device]) string {
	var out []string
	for _, d := range found.Rows {
		out = append(out, d.Name)
	}
	return strings.Join(out, " ")
}

func TestQueries(t *testing.T) {
	s := fleet.NewStore()
	for _, d := range []*v1alpha1.Device{device("c", true, in("lyon")), device("a", false, in("paris")), device("b", true, in("paris")), device("d", true, nil)} {
		s.PutDevice(d)
	}
	for _, tt := range []struct {
		query fleet.DeviceQuery
		want  string
	}{
		{fleet.DeviceQuery{}, "a b c d"},
		{fleet.DeviceQuery{Down: true}, "d c b a"},
		{fleet.DeviceQuery{Selector: "site=paris"}, "a b"},
		{fleet.DeviceQuery{Selector: "site notin (paris)"}, "c d"},
		{fleet.DeviceQuery{Selector: "!site"}, "d"},
		{fleet.DeviceQuery{State: "offline"}, "a"},
		{fleet.DeviceQuery{Sort: "state"}, "a b c d"},
		{fleet.DeviceQuery{Sort: "state", Down: true}, "b c d a"},
		{fleet.DeviceQuery{Name: "b", Page: 7}, "b"},
	} {
		found, err := s.Snapshot().FindDevices(tt.query)
		if err != nil || names(found) != tt.want {
			t.Errorf("%+v: %q, %v; want %q", tt.query, names(found), err, tt.want)
		}
	}
	for _, q := range []fleet.DeviceQuery{{Selector: "site in paris"}, {State: "well"}} {
		if _, err := s.Snapshot().FindDevices(q); err == nil {
			t.Errorf("%+v: no error", q)
		}
	}
}

func TestPages(t *testing.T) {
	s := fleet.NewStore()
	for i := range 120 {
		s.PutDevice(device(fmt.Sprintf("pi-%03d", i), true, nil))
	}
	for page, want := range map[int]struct {
		first string
		rows  int
	}{1: {"pi-000", 50}, 3: {"pi-100", 20}, 99: {"pi-100", 20}, 0: {"pi-000", 120}} {
		found, err := s.Snapshot().FindDevices(fleet.DeviceQuery{Page: page})
		if err != nil || found.Rows[0].Name != want.first || len(found.Rows) != want.rows || found.Total != 120 || found.Pages != 3 {
			t.Errorf("page %d: %s, %d rows, %v", page, found.Rows[0].Name, len(found.Rows), err)
		}
	}
}

// TestSharedCauseIsOneProblem: a site without power is one, and so is a fleet
// that nobody hears of.
func TestSharedCauseIsOneProblem(t *testing.T) {
	s := fleet.NewStore()
	for i := range 10 {
		s.PutDevice(device(fmt.Sprintf("l-%d", i), true, map[string]string{"site": "lyon", "tier": "prod"}))
		s.PutDevice(device(fmt.Sprintf("p-%d", i), false, map[string]string{"site": "porto", "tier": "prod"}))
	}
	s.PutDevice(device("l-0", false, in("lyon")))
	titles := func() (out []string) {
		for _, p := range s.Snapshot().Problems() {
			out = append(out, p.Title)
		}
		return out
	}
	want := []string{"All 10 devices with site=porto are silent", "l-0 is silent"}
	if got := titles(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for i := range 10 {
		s.PutDevice(device(fmt.Sprintf("l-%d", i), false, in("lyon")))
	}
	time.Sleep(60 * time.Millisecond) // a snapshot may be that old
	if got := titles(); len(got) != 1 || got[0] != "All 20 devices are silent" {
		t.Errorf("%q", got)
	}
}

func TestGridHasACellForEachDevice(t *testing.T) {
	s := fleet.NewStore()
	for i := range 700 {
		s.PutDevice(device(fmt.Sprintf("pi-%04d", i), i%13 != 0, in([]string{"lyon", "paris", "oslo"}[i%3])))
	}
	s.PutDevice(device("without", true, nil))
	for by, groups := range map[string]int{"": 1, "site": 4, "nonsense": 1} {
		g := s.Snapshot().Grid(by)
		if len(g.Groups) != groups {
			t.Errorf("by %q: %d groups", by, len(g.Groups))
		}
		total := 0
		for _, group := range g.Groups {
			cells := map[[2]int]fleet.State{}
			for _, state := range fleet.States() {
				for _, run := range group.Runs[state] {
					for i := range run.Cells {
						at := [2]int{run.Row, run.Column + i}
						if _, taken := cells[at]; taken || at[1] >= group.Columns || at[0] >= group.Rows {
							t.Fatalf("by %q: cell %v twice or outside", by, at)
						}
						cells[at] = state
					}
				}
			}
			for i, d := range group.Devices {
				if cells[[2]int{i / group.Columns, i % group.Columns}] != d.State {
					t.Errorf("by %q: %s has the wrong colour", by, d.Name)
				}
			}
			total += len(cells)
		}
		if total != 701 {
			t.Errorf("by %q: %d cells", by, total)
		}
	}
}

func TestChangedTells(t *testing.T) {
	s := fleet.NewStore()
	s.PutDevice(device("a", true, nil))
	snap := s.Snapshot()
	changed := s.Changed(snap.Version)
	select {
	case <-changed:
		t.Fatal("nothing changed")
	default:
	}
	s.DeleteDevice("a")
	<-changed
	<-s.Changed(snap.Version) // also for who asks too late
	if len(snap.Devices) != 1 {
		t.Error("a snapshot changed")
	}
}
