package presence

import (
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func link(server string, cid uint64, after time.Duration) Connection {
	return Connection{Device: "pi-1", Server: server, CID: cid, Since: noon.Add(after)}
}

// Two observers that hear of the same links in different order must end the
// same one, or they end both.
func TestNewestDoesNotDependOnOrder(t *testing.T) {
	for name, pair := range map[string][2]Connection{
		"later":                 {link("a", 9, 0), link("b", 1, time.Second)},
		"same time, servers":    {link("a", 1, 0), link("b", 1, 0)},
		"same time, one server": {link("a", 1, 0), link("a", 2, 0)},
	} {
		for _, order := range [][2]int{{0, 1}, {1, 0}} {
			tb := newTable()
			tb.add(pair[order[0]])
			older := tb.add(pair[order[1]])
			if len(older) != 1 || older[0].key() != pair[0].key() {
				t.Errorf("%s, order %v: ends %+v", name, order, older)
			}
		}
	}
}

func TestWhoIsReplaced(t *testing.T) {
	tb := newTable()
	var older []Connection
	for cid := range uint64(3) {
		older = tb.add(link("a", cid, time.Duration(cid)*time.Second))
	}
	if len(older) != 2 || older[0].CID != 1 || older[1].CID != 0 {
		t.Errorf("the newest of the older is not first: %+v", older)
	}
	for cid, want := range []bool{true, true, false} {
		if newest, there := tb.replaces(link("a", uint64(cid), time.Duration(cid)*time.Second)); there != want || there && newest.CID != 2 {
			t.Errorf("connection %d: replaced %v by %+v", cid, there, newest)
		}
	}
	tb.remove(link("a", 0, 0))
	if _, there := tb.replaces(link("a", 0, 0)); there {
		t.Error("a connection that ended by itself is still replaced")
	}
}

func TestListingDoesNotReviveWhatEnded(t *testing.T) {
	tb := newTable()
	stays, vanished, ends := link("a", 1, 0), link("a", 2, 0), link("a", 3, 0)
	stays.Device, vanished.Device, ends.Device = "stays", "vanished", "ends"
	missed := link("a", 5, 0) // its connect was not heard
	missed.Device = "missed"
	tb.add(stays)
	tb.add(vanished)
	before := tb.beginListing()
	tb.remove(ends) // its disconnect overtakes the listing that still has it
	came := link("a", 4, 0)
	came.Device = "came"
	tb.add(came)
	added, ended := tb.endListing(before, []Connection{stays, ends, missed})
	for _, c := range added {
		tb.add(c)
	}
	if len(added) != 1 || added[0].Device != "missed" || len(ended) != 1 || ended[0].Device != "vanished" {
		t.Errorf("added %v, ended %v", added, ended)
	}
	for device, want := range map[string]bool{"stays": true, "vanished": false, "ends": false, "came": true, "missed": true} {
		if _, ok := tb.newest(device); ok != want {
			t.Errorf("%s: connected %v, want %v", device, ok, want)
		}
	}
}

func TestFlapping(t *testing.T) {
	tb := newTable()
	for i := range flapCount - 1 {
		if tb.replaced("pi-1", noon.Add(time.Duration(i)*time.Second)) {
			t.Fatalf("alarm after %d", i+1)
		}
	}
	if !tb.replaced("pi-1", noon.Add(flapCount*time.Second)) {
		t.Error("no alarm")
	}
	for i := range 3 * flapCount {
		if tb.replaced("pi-2", noon.Add(time.Duration(i)*flapWindow/2)) {
			t.Fatal("alarm for a link that is merely bad")
		}
	}
}
