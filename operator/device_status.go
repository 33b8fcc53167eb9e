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

// deviceStatus is the status that a Device should have, and whether that is
// worth a write: a heartbeat alone is one only now and then.
func (c *core) deviceStatus(live *v1alpha1.Device, rec *record) (v1alpha1.DeviceStatus, bool) {
	now := c.now()
	out := *live.Status.DeepCopy()
	if rec.info != nil && rec.intruder == "" {
		out.Inventory = inventoryOf(&rec.info.Inventory)
	}
	if v, settled := c.registry.judge(rec, now); settled {
		meta.SetStatusCondition(&out.Conditions, readyCondition(v, rec.lastSeen, c.timing.HeartbeatTimeout, now))
	}
	if known := meta.FindStatusCondition(out.Conditions, v1alpha1.ConditionIdentityConflict); rec.info != nil && (rec.intruder != "" || known != nil) {
		meta.SetStatusCondition(&out.Conditions, identityCondition(rec, now))
	}
	changed := !equality.Semantic.DeepEqual(out, live.Status)
	if !rec.lastSeen.IsZero() {
		at := metav1.NewTime(rec.lastSeen.Truncate(time.Second))
		due := live.Status.LastHeartbeat == nil || at.Sub(live.Status.LastHeartbeat.Time) >= c.timing.HeartbeatRenewal
		if changed || due {
			out.LastHeartbeat, changed = &at, true
		}
	}
	return out, changed
}

func readyCondition(v verdict, lastSeen time.Time, timeout time.Duration, now time.Time) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionReady, Reason: string(v), Status: metav1.ConditionFalse, LastTransitionTime: metav1.NewTime(now)}
	switch v {
	case alive:
		c.Status, c.Message = metav1.ConditionTrue, "heartbeats arrive"
	case missing:
		c.Message = fmt.Sprintf("no heartbeat since %s, for more than %s", lastSeen.UTC().Format(time.RFC3339), timeout)
	case neverSeen:
		c.Message = "no heartbeat has arrived yet"
	}
	return c
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

func clampInt64(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
