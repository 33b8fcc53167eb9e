package operator

import (
	"fmt"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// urgency is how soon a difference between a status and what is known has to
// be written.
type urgency int

const (
	never  urgency = iota // there is none
	waits                 // it may wait its turn: see drip
	atOnce                // somebody may be waiting for it
)

// deviceStatus is the status that a Device should have.
func (c *core) deviceStatus(live *v1alpha1.Device, rec *record) (v1alpha1.DeviceStatus, urgency) {
	now, link := c.now(), c.link(live.Name)
	out := *live.Status.DeepCopy()
	if rec.info != nil && rec.intruder == "" {
		out.Inventory = inventoryOf(&rec.info.Inventory)
		out.SigningKeys = signingKeysOf(rec.info)
	}
	set := func(condition metav1.Condition) {
		condition.LastTransitionTime = metav1.NewTime(now)
		meta.SetStatusCondition(&out.Conditions, condition)
	}
	if v, settled := c.judge(rec, link, now); settled {
		set(c.readyCondition(v, rec))
	}
	if condition, known := connectedCondition(link, live.Status.Conditions); known {
		set(condition)
	}
	if known := meta.FindStatusCondition(out.Conditions, v1alpha1.ConditionIdentityConflict); rec.info != nil && (rec.intruder != "" || known != nil) {
		set(identityCondition(rec, now))
	}
	how := never
	if !equality.Semantic.DeepEqual(out, live.Status) {
		how = atOnce
	}
	s := c.model.standing(live.Name)
	set(c.progress(live.Name, s, rec.accepted))
	if condition, known := warningCondition(s, live.Status.Conditions); known {
		set(condition)
	}
	at := metav1.NewTime(rec.lastSeen.Truncate(time.Second))
	due := !rec.lastSeen.IsZero() && (live.Status.LastHeartbeat == nil || at.Sub(live.Status.LastHeartbeat.Time) >= c.timing.HeartbeatRenewal)
	if how == never && (due || !equality.Semantic.DeepEqual(out, live.Status)) {
		how = waits
	}
	if how != never && !rec.lastSeen.IsZero() {
		out.LastHeartbeat = &at
	}
	return out, how
}

func identityCondition(rec *record, now time.Time) metav1.Condition {
	c := metav1.Condition{
		Type: v1alpha1.ConditionIdentityConflict, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonMachineIDMatches,
		Message: "reports come from the registered machine", LastTransitionTime: metav1.NewTime(now),
	}
	if rec.intruder != "" {
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonMachineIDMismatch
		c.Message = fmt.Sprintf("a report from machine %.64q is refused: the device is registered to machine %.64q. "+
			"Give that machine an id of its own, or clear spec.machineId if it replaces the registered one", rec.intruder, rec.machineID)
	}
	return c
}

// newlyTrue lists the conditions that became True.
func newlyTrue(before, after []metav1.Condition) []metav1.Condition {
	var out []metav1.Condition
	for _, c := range after {
		if c.Status == metav1.ConditionTrue && !meta.IsStatusConditionTrue(before, c.Type) {
			out = append(out, c)
		}
	}
	return out
}

func inventoryOf(in *wire.Inventory) v1alpha1.Inventory {
	return v1alpha1.Inventory{
		Hostname: in.Hostname, OS: in.OS, Kernel: in.Kernel, Architecture: in.Architecture, Model: in.Model,
		CPUs: int64(in.CPUs), MemoryBytes: clampInt64(in.MemoryBytes), DiskBytes: clampInt64(in.DiskBytes),
		AgentVersion: in.AgentVersion, PodmanVersion: in.PodmanVersion, BootID: in.BootID,
		CgroupsVersion: in.CgroupsVersion, ContainerEngine: in.ContainerEngine,
	}
}

// signingKeysOf leaves out what no device of ours says.
func signingKeysOf(info *wire.DeviceInfo) []string {
	var ids []string
	for _, id := range info.SigningKeys[:min(len(info.SigningKeys), wire.MaxPinnedKeys)] {
		if len(id) <= maxKeyID {
			ids = append(ids, id)
		}
	}
	return ids
}

const maxKeyID = 64

func clampInt64(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
