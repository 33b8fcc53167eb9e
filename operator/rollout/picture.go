package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Picture is how far a rollout is, for people.
type Picture struct {
	Total   Counts
	Groups  []Counts // those with something left to do first, then by name
	Waiting []Blocker
	Message string
	// Idle says that no device is left that could still need something when it
	// returns.
	Idle bool
}

// Counts are of one group, or of all. Updated, Ready and Failed are about the
// target, whatever the goal is.
type Counts struct {
	Group                                    string
	Batch                                    int
	Devices, Updated, Ready, Failed, Offline int
	InProgress                               int
}

// Blocker is a device that the rollout waits for, or that failed.
type Blocker struct {
	Device, Reason, Message string
}

// MaxBlockers is how many are named.
const MaxBlockers = 8

func (v *view) picture(s *State, in *Input) Picture {
	out := Picture{Idle: true}
	byGroup := map[string]*Counts{}
	for _, g := range v.groups {
		c := &Counts{Group: g.name, Batch: s.Batch, Devices: g.devices, Offline: g.offline, InProgress: g.inProgress}
		byGroup[g.name] = c
	}
	for i := range in.Devices {
		d, verdict := &in.Devices[i], v.verdicts[i]
		if c := byGroup[d.Group]; d.Told == s.Target {
			c.Updated++
			switch {
			case verdict.standing == ready, s.goal() != s.Target && available(d):
				c.Ready++
			case verdict.standing == failed, s.goal() != s.Target && d.Report.Revision == d.Told && d.Report.Health == Failing:
				c.Failed++
			}
		}
		if d.Told != s.goal() || verdict.standing == inProgress {
			out.Idle = false
		}
		if b, blocks := v.blocker(d, i); blocks {
			out.Waiting = append(out.Waiting, b)
		}
	}
	for _, g := range v.groups {
		c := byGroup[g.name]
		out.Groups = append(out.Groups, *c)
		out.Total.add(c)
	}
	out.Total.Batch = s.Batch
	slices.SortStableFunc(out.Groups, func(a, b Counts) int { return cmp.Compare(a.rank(), b.rank()) })
	slices.SortStableFunc(out.Waiting, func(a, b Blocker) int { return cmp.Compare(blockerRank(a), blockerRank(b)) })
	out.Waiting = out.Waiting[:min(len(out.Waiting), MaxBlockers)]
	out.Message = v.message(s, in, &out)
	return out
}

func (c *Counts) add(o *Counts) {
	c.Devices += o.Devices
	c.Updated += o.Updated
	c.Ready += o.Ready
	c.Failed += o.Failed
	c.Offline += o.Offline
	c.InProgress += o.InProgress
}

func (c *Counts) rank() int {
	if c.Ready == c.Devices {
		return 1
	}
	return 0
}

func blockerRank(b Blocker) int {
	return slices.Index([]string{ReasonFailed, ReasonDeadlineExceeded, ReasonLost, ReasonOffline, ReasonNotReady, ReasonUnwell}, b.Reason)
}

// blocker says whether a device is one that is waited for.
func (v *view) blocker(d *Device, i int) (Blocker, bool) {
	switch verdict := v.verdicts[i]; verdict.standing {
	case inProgress, failed, lost:
		return Blocker{Device: d.ID, Reason: verdict.reason, Message: v.why(d, i)}, true
	case untouched:
		if d.Connected && d.Told != 0 && !available(d) {
			return Blocker{Device: d.ID, Reason: ReasonUnwell, Message: v.why(d, i)}, true
		}
	}
	return Blocker{}, false
}

func (v *view) why(d *Device, i int) string {
	if d.Report.Message != "" {
		return d.Report.Message
	}
	switch v.verdicts[i].reason {
	case ReasonDeadlineExceeded:
		return "it was not ready by the progress deadline"
	case ReasonOffline:
		return "it went offline after it was given the revision"
	case ReasonLost:
		return "it went offline after it was given the revision and did not return by the progress deadline"
	}
	switch {
	case d.Report.Revision != d.Told:
		return "it has not reported the revision yet"
	case d.Report.Health == Running:
		return "it runs, but not for long enough yet"
	}
	return "it is working on it"
}

// Prefixes of the messages of a rollout that failed; State.Failure follows.
const (
	prefixFailed      = "stopped: "
	prefixRollingBack = "rolling back: "
	prefixRolledBack  = "rolled back: "
)

// FailureIn gives State.Failure back from a Picture's message.
func FailureIn(message string) string {
	for _, prefix := range []string{prefixFailed, prefixRollingBack, prefixRolledBack} {
		if rest, ok := strings.CutPrefix(message, prefix); ok {
			return rest
		}
	}
	return message
}

func (v *view) message(s *State, in *Input, p *Picture) string {
	t := &p.Total
	switch s.Phase {
	case Failed:
		return prefixFailed + s.Failure
	case RollingBack:
		return prefixRollingBack + s.Failure
	case RolledBack:
		return prefixRolledBack + s.Failure
	case Complete:
		if n := v.unreached(); n > 0 {
			text := fmt.Sprintf("complete; %s will catch up", countOf(n))
			if slices.ContainsFunc(v.groups, func(g *group) bool { return g.held }) {
				text = fmt.Sprintf("complete, but %s that returned failed: %s keep what they run", countOf(len(v.failures)), countOf(n))
			}
			return text
		}
		return "complete"
	}
	text := fmt.Sprintf("batch %d: %d of %s ready, %d in progress", max(s.Batch, 1), t.Ready, countOf(t.Devices), t.InProgress)
	if t.Failed > 0 {
		text += fmt.Sprintf(", %d failed", t.Failed)
	}
	if t.Offline > 0 {
		text += fmt.Sprintf(", %d offline", t.Offline)
	}
	if t.Devices > 0 && t.Offline == t.Devices {
		text += ": none is connected that could prove it"
	}
	return join(text, pausedText(in))
}

// unreached counts the devices that have yet to be told the goal.
func (v *view) unreached() int {
	n := 0
	for _, g := range v.groups {
		n += g.devices - g.told
	}
	return n
}

func pausedText(in *Input) string {
	if in.Policy.Paused {
		return "paused"
	}
	return ""
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

func countOf(n int) string {
	if n == 1 {
		return "1 device"
	}
	return fmt.Sprintf("%d devices", n)
}

func cmpString(a, b string) int { return cmp.Compare(a, b) }
