package view

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// DeviceData is what the page of a device shows.
type DeviceData struct {
	User   *User // never nil; without a form token in events
	Device *fleet.Device
	Works  []Work
	// Known is what the server knows beside the object; nil when it could not
	// be asked.
	Known *api.Device
	// SilentSince is when a device that counts as connected last answered,
	// while it does not; zero otherwise.
	SilentSince time.Time
	History     []Event
	Logs        *LogTarget // whose output is shown; nil for none
}

// as is the same for who looks at the page.
func (d DeviceData) as(u *User) DeviceData {
	d.User = u
	return d
}

// silent says that the device counts as connected and does not answer.
func (d DeviceData) silent() bool { return !d.SilentSince.IsZero() }

// Work is one deployment on the device, as it should be and as it is.
type Work struct {
	Name       string
	Deployment *fleet.Deployment     // nil: not desired any more
	State      *wire.DeploymentState // nil: not reported yet
}

// Event is one thing that happened.
type Event struct {
	At   time.Time
	What string
	Who  string
	Bad  bool
}

// LogTarget is whose output is shown.
type LogTarget struct{ Device, Deployment, Service string }

// Works puts together what a device should run with what it says it runs.
func Works(desired []*fleet.Deployment, state *wire.DeviceState) []Work {
	byName := map[string]*Work{}
	for _, d := range desired {
		if w := byName[d.Name]; w == nil {
			byName[d.Name] = &Work{Name: d.Name, Deployment: d}
		}
	}
	if state != nil {
		for i := range state.Deployments {
			s := &state.Deployments[i]
			if byName[s.Name] == nil {
				byName[s.Name] = &Work{Name: s.Name}
			}
			byName[s.Name].State = s
		}
	}
	var out []Work
	for _, w := range byName {
		out = append(out, *w)
	}
	slices.SortFunc(out, func(a, b Work) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Phase is the state of the work in one word.
func (w Work) Phase() string {
	switch {
	case w.State == nil:
		return "Pending"
	case w.Deployment == nil:
		return "Removing"
	}
	return string(w.State.Phase)
}

func (w Work) services() []wire.ServiceState {
	if w.State == nil {
		return nil
	}
	return w.State.Services
}

func (w Work) why() string {
	if w.State == nil {
		return "the device has not reported it yet"
	}
	return w.State.Message
}

// reason names why it failed: that of the first service which says so.
func (w Work) reason() wire.Reason {
	for _, s := range w.services() {
		if s.Phase == wire.PhaseFailed && s.Reason != "" {
			return s.Reason
		}
	}
	return ""
}

// workAction is something to do with a deployment on one device.
type workAction struct{ name, title, question string }

// actions are those that make sense now.
func (w Work) actions(device string) []workAction {
	if w.Deployment == nil || w.State == nil {
		return nil
	}
	here := w.Name + " on " + device
	stop := workAction{"stop", "Stop", "Stop " + here + "? It stays stopped, over reboots and new versions too, until somebody starts it."}
	start := workAction{"start", "Start", ""}
	restart := workAction{"restart", "Restart", "Restart " + here + "?"}
	switch stopped := w.stoppedByHand(); {
	case stopped == 0:
		return []workAction{restart, stop}
	case stopped == len(w.State.Services):
		return []workAction{start}
	}
	return []workAction{start, restart, stop}
}

// stoppedByHand is how many of its services somebody stopped.
func (w Work) stoppedByHand() int {
	n := 0
	for _, s := range w.State.Services {
		if s.Phase == wire.PhaseStopped && s.Message == wire.StoppedByHand {
			n++
		}
	}
	return n
}

// AuditEvents are records of what people did with a device.
func AuditEvents(records []audit.Record) []Event {
	out := make([]Event, 0, len(records))
	for _, r := range records {
		e := Event{At: r.At, What: r.Action, Who: r.Who}
		if r.Outcome != "ok" && r.Outcome != "begun" {
			e.What, e.Bad = r.Action+": "+r.Outcome, true
		}
		out = append(out, e)
	}
	return out
}

// SortEvents puts the newest first.
func SortEvents(events []Event) {
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(b.At.UnixNano(), a.At.UnixNano()) })
}

func logsURL(device, deployment, service string) string {
	return deviceURL(device) + "?logs=" + url.QueryEscape(deployment+"/"+service) + "#logs"
}

func logsQuery(t *LogTarget) string {
	return url.Values{"deployment": {t.Deployment}, "service": {t.Service}}.Encode()
}

type fact struct{ name, value string }

func inventoryFacts(d *fleet.Device) []fact {
	in := d.Status.Inventory
	cpus := ""
	if in.CPUs > 0 {
		cpus = fmt.Sprint(in.CPUs)
	}
	all := []fact{
		{"Model", in.Model}, {"Hostname", in.Hostname}, {"Architecture", in.Architecture}, {"CPUs", cpus},
		{"Memory", bytesText(in.MemoryBytes)}, {"Disk", bytesText(in.DiskBytes)}, {"OS", in.OS}, {"Kernel", in.Kernel},
		{"Agent", in.AgentVersion}, {"Podman", in.PodmanVersion}, {"cgroups", in.CgroupsVersion}, {"Machine", d.Spec.MachineID},
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.value == "" })
}

// conditionTone is how a condition is: well, badly, or neither.
func conditionTone(kind, status string) string {
	good := "True"
	switch kind {
	case "IdentityConflict", "NameConflict", "Degraded":
		good = "False"
	case "Progressing":
		if status == "True" {
			return "warn"
		}
		return "none"
	}
	switch status {
	case good:
		return "good"
	case "Unknown":
		return "none"
	}
	return "bad"
}
