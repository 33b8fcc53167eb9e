package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Problem is something that is wrong now, and why. One cause that takes many
// devices is one problem.
type Problem struct {
	Kind       string // "conflict", "offline", "failing", "blocked"
	Title      string
	Why        string
	Since      time.Time   // zero when unknown
	Devices    int         // that are affected
	Device     string      // the one that it is about, or that tells the most; "" for none
	Selector   string      // of the devices that it is about; "" for none
	Deployment *Deployment // that it is about; nil for none
}

const (
	groupAtLeast   = 3   // devices, for a label to be taken for the cause
	groupShare     = 0.8 // of the devices with the label that have to be offline
	singleProblems = 5   // devices that are named one by one
)

// Problems lists what is wrong, the worst first.
func (s *Snapshot) Problems() []Problem { return s.problems() }

func (s *Snapshot) findProblems() []Problem {
	var out []Problem
	var offline []*Device
	for _, d := range s.Devices {
		switch d.State {
		case Conflict:
			out = append(out, Problem{Kind: "conflict", Title: "Two machines claim the id " + d.Name, Why: d.Why, Since: d.Since, Devices: 1, Device: d.Name})
		case Offline:
			offline = append(offline, d)
		}
	}
	for _, d := range s.Deployments {
		if d.Health != Failing && d.Health != Blocked {
			continue
		}
		p := Problem{Kind: d.Health.String(), Since: d.Since, Why: d.Why, Deployment: d, Title: d.Name + " cannot be carried out"}
		if d.Health == Failing {
			a := d.Status.Aggregate
			p.Devices = int(a.Failed)
			p.Title = fmt.Sprintf("%s fails on %s of %d", d.Name, devices(int(a.Failed)), a.MatchedDeviceCount)
			if a.LastError != nil {
				p.Why, p.Device, p.Since = a.LastError.Message, a.LastError.DeviceID, a.LastError.At.Time
			}
		}
		out = append(out, p)
	}
	out = append(out, s.offlineProblems(offline)...)
	slices.SortStableFunc(out, func(a, b Problem) int { return cmp.Compare(b.Devices, a.Devices) })
	return out
}

// offlineProblems looks for what silent devices have in common: a site
// without power is one problem and not forty.
func (s *Snapshot) offlineProblems(offline []*Device) []Problem {
	var out []Problem
	if len(offline) >= groupAtLeast && len(offline) == len(s.Devices) {
		p := Problem{Kind: "offline", Devices: len(offline), Title: fmt.Sprintf("All %s are silent", devices(len(offline))),
			Why: "no device of the fleet is heard of: look at the NATS server, and at the network in front of it"}
		for _, d := range offline {
			if d.Since.After(p.Since) {
				p.Since = d.Since
			}
		}
		return []Problem{p}
	}
	if len(offline) >= groupAtLeast {
		all := labelCounts(s.Devices)
		for len(offline) >= groupAtLeast {
			pair, n := commonest(labelCounts(offline), all)
			if n == 0 {
				break
			}
			in := func(d *Device) bool { return d.Labels[pair.key] == pair.value }
			p := Problem{Kind: "offline", Devices: n, Selector: pair.key + "=" + pair.value}
			p.Title = fmt.Sprintf("%d of %s with %s are silent", n, devices(all[pair]), p.Selector)
			if n == all[pair] {
				p.Title = fmt.Sprintf("All %s with %s are silent", devices(n), p.Selector)
			}
			for _, d := range offline {
				if in(d) && d.Since.After(p.Since) {
					p.Since = d.Since
				}
			}
			p.Why = "look for a cause that they share, such as power, network or an update; the last of them fell silent then"
			out = append(out, p)
			offline = slices.DeleteFunc(offline, in)
		}
	}
	slices.SortStableFunc(offline, func(a, b *Device) int { return b.Since.Compare(a.Since) })
	for i, d := range offline {
		if i == singleProblems {
			out = append(out, Problem{Kind: "offline", Title: fmt.Sprintf("%s more are silent", devices(len(offline)-i)),
				Why: "for longer than those above", Devices: 0})
			break
		}
		out = append(out, Problem{Kind: "offline", Title: d.Name + " is silent", Why: d.Why, Since: d.Since, Devices: 1, Device: d.Name})
	}
	return out
}

type labelPair struct{ key, value string }

func labelCounts(of []*Device) map[labelPair]int {
	out := map[labelPair]int{}
	for _, d := range of {
		for k, v := range d.Labels {
			if k != v1alpha1.LabelDeviceID {
				out[labelPair{k, v}]++
			}
		}
	}
	return out
}

// commonest is the label that most of the offline devices have and that few
// others do; n is 0 when there is none.
func commonest(offline, all map[labelPair]int) (best labelPair, n int) {
	for pair, silent := range offline {
		if silent < groupAtLeast || float64(silent) < groupShare*float64(all[pair]) {
			continue
		}
		if silent > n || silent == n && (pair.key < best.key || pair.key == best.key && pair.value < best.value) {
			best, n = pair, silent
		}
	}
	return best, n
}

func devices(n int) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}
