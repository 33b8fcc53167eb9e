package view

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// DeploymentData is what the page of a deployment shows.
type DeploymentData struct {
	Deployment *fleet.Deployment
	Groups     []DeviceGroup
	GroupBy    string // label of Groups
	Facets     []string
	Devices    int // that match now
	History    []Revision
	// HistoryProblem says why there is no history.
	HistoryProblem string
	Diff           *Diff
}

// DeviceGroup counts the devices of a deployment with one value of a label.
type DeviceGroup struct {
	Value    string
	Selector string // of these devices
	Devices  int
	Ready    int
	Offline  int
}

// Revision is one entry of a deployment's history.
type Revision struct {
	Number  int64
	At      time.Time
	Images  []string
	Current bool
	Stable  bool
}

// Diff is what two revisions differ in.
type Diff struct {
	From, To int64
	Lines    []DiffLine
}

// DiffLine is a line of both, or of one of them.
type DiffLine struct {
	Sign string // " ", "+", "-"
	Text string
}

func (l DiffLine) class() string {
	switch l.Sign {
	case "+":
		return "added"
	case "-":
		return "removed"
	}
	return ""
}

func rolloutSummary(s *v1alpha1.RolloutStatus) string {
	return fmt.Sprintf("batch %d: %d of %d devices updated, %d ready, %d failed, %d offline", s.Batch, s.Updated, s.Devices, s.Ready, s.Failed, s.Offline)
}

// rolloutAggregate shows a rollout's counts as a bar.
func rolloutAggregate(c v1alpha1.RolloutCounts) v1alpha1.Aggregate {
	return v1alpha1.Aggregate{MatchedDeviceCount: c.Devices, Succeeded: c.Ready, Failed: c.Failed, Pending: max(0, c.Updated-c.Ready-c.Failed)}
}

// phaseTone is the colour of a rollout's phase.
func phaseTone(p v1alpha1.RolloutPhase) string {
	switch p {
	case v1alpha1.RolloutComplete:
		return "good"
	case v1alpha1.RolloutFailed, v1alpha1.RolloutRolledBack:
		return "bad"
	}
	return "warn"
}

// canRetry says that a rollout stopped for its failures.
func canRetry(s *v1alpha1.RolloutStatus) bool {
	return s != nil && (s.Phase == v1alpha1.RolloutFailed || s.Phase == v1alpha1.RolloutRolledBack || s.Phase == v1alpha1.RolloutRollingBack)
}

// serviceFacts show a service. Values of environment variables are left out:
// they are often secret.
func serviceFacts(s *v1alpha1.Service) []fact {
	var ports, env, volumes []string
	for _, p := range s.Ports {
		ports = append(ports, string(p))
	}
	for _, e := range s.Env {
		env = append(env, e.Name)
	}
	for _, v := range s.Volumes {
		mode := ""
		if v.ReadOnly {
			mode = ":ro"
		}
		volumes = append(volumes, string(v.HostPath)+":"+string(v.ContainerPath)+mode)
	}
	var out []fact
	for _, f := range []fact{{"Image", s.Image}, {"Ports", strings.Join(ports, ", ")}, {"Environment", strings.Join(env, ", ")},
		{"Volumes", strings.Join(volumes, ", ")}, {"Restart", s.RestartPolicy}} {
		if f.value != "" {
			out = append(out, f)
		}
	}
	return out
}

func revisionText(n int64) string { return strconv.FormatInt(n, 10) }

func restartQuestion(d *fleet.Deployment) string {
	if d.Spec.Rollout != nil {
		return fmt.Sprintf("Make every container of %s anew, in the batches of its rollout?", d.Name)
	}
	return fmt.Sprintf("Make every container of %s anew, on all its devices at once?", d.Name)
}

func undoQuestion(d *fleet.Deployment, r Revision) string {
	return fmt.Sprintf("Make revision %d what %s runs again?", r.Number, d.Name)
}
