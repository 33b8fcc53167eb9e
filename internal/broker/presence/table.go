package presence

import (
	"slices"
	"time"
)

// Flapping is flapCount replaced connections of one id within flapWindow.
const (
	flapCount  = 5
	flapWindow = time.Minute
)

type connKey struct {
	server string
	cid    uint64
}

func (c Connection) key() connKey { return connKey{c.Server, c.CID} }

// newerThan orders links of one device the same way for every observer.
func (c Connection) newerThan(o Connection) bool {
	if !c.Since.Equal(o.Since) {
		return c.Since.After(o.Since)
	}
	if c.Server != o.Server {
		return c.Server > o.Server
	}
	return c.CID > o.CID
}

// table holds links by device. It is pure; the Tracker locks it.
type table struct {
	devices map[string]map[connKey]Connection
	swaps   map[string][]time.Time // when links of a device were replaced
	// gone holds links that ended while a listing was under way: the
	// listing may still have them.
	gone    map[connKey]bool
	listing bool
}

func newTable() table {
	return table{devices: map[string]map[connKey]Connection{}, swaps: map[string][]time.Time{}, gone: map[connKey]bool{}}
}

// add records c and gives the links of its device that are to end, the newest
// of them first; c itself can be one.
func (t *table) add(c Connection) (older []Connection) {
	links := t.devices[c.Device]
	if links == nil {
		links = map[connKey]Connection{}
		t.devices[c.Device] = links
	}
	if _, known := links[c.key()]; known {
		return nil
	}
	links[c.key()] = c
	newest, _ := t.newest(c.Device)
	for k, o := range links {
		if k != newest.key() {
			older = append(older, o)
		}
	}
	slices.SortFunc(older, func(a, b Connection) int {
		if a.newerThan(b) {
			return -1
		}
		return 1
	})
	return older
}

func (t *table) remove(c Connection) {
	if t.listing {
		t.gone[c.key()] = true
	}
	delete(t.devices[c.Device], c.key())
	if len(t.devices[c.Device]) == 0 {
		delete(t.devices, c.Device)
	}
}

// replaces gives the newer link of the device of o; there is false when there is
// none, or o is gone.
func (t *table) replaces(o Connection) (newest Connection, there bool) {
	if _, known := t.devices[o.Device][o.key()]; !known {
		return newest, false
	}
	newest, _ = t.newest(o.Device)
	return newest, newest.key() != o.key()
}

func (t *table) newest(device string) (newest Connection, ok bool) {
	for _, c := range t.devices[device] {
		if !ok || c.newerThan(newest) {
			newest, ok = c, true
		}
	}
	return newest, ok
}

func (t *table) of(device string) []Connection {
	var all []Connection
	for _, c := range t.devices[device] {
		all = append(all, c)
	}
	return all
}

// replaced notes that a link of the device was replaced, and says whether that
// happens so often that two machines must share the id. It says so once per
// flapCount replacements.
func (t *table) replaced(device string, now time.Time) bool {
	var recent []time.Time
	for _, at := range append(t.swaps[device], now) {
		if now.Sub(at) < flapWindow {
			recent = append(recent, at)
		}
	}
	flapping := len(recent) >= flapCount
	if flapping {
		delete(t.swaps, device)
	} else {
		t.swaps[device] = recent
	}
	return flapping
}

// beginListing and endListing bracket a listing of what is connected. added is
// to be added; ended has been removed. The table then has what was listed and
// what came while it was listed.
func (t *table) beginListing() (before map[connKey]Connection) {
	t.listing = true
	before = map[connKey]Connection{}
	for _, links := range t.devices {
		for k, c := range links {
			before[k] = c
		}
	}
	return before
}

func (t *table) endListing(before map[connKey]Connection, listed []Connection) (added, ended []Connection) {
	seen := map[connKey]bool{}
	for _, c := range listed {
		seen[c.key()] = true
		if _, known := t.devices[c.Device][c.key()]; !known && !t.gone[c.key()] {
			added = append(added, c)
		}
	}
	for k, c := range before {
		if !seen[k] {
			t.remove(c)
			ended = append(ended, c)
		}
	}
	t.listing, t.gone = false, map[connKey]bool{}
	return added, ended
}
