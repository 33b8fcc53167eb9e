package dashboard

import (
	"fmt"
	"math/rand/v2"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

var (
	sites  = []string{"amsterdam", "barcelona", "berlin", "geneva", "lisbon", "london", "lyon", "madrid", "milan", "oslo", "paris", "porto", "prague", "rome", "vienna", "zurich"}
	models = []string{"Raspberry Pi 4 Model B Rev 1.5", "Raspberry Pi 5 Model B Rev 1.0", "Intel NUC11TNHi3", "Beelink Mini S12"}
	arches = []string{"arm64", "arm64", "amd64", "amd64"}
	apps   = []string{"signage", "sensor-gateway", "camera-relay", "edge-cache", "pos-bridge", "door-control", "metrics", "vpn-exit"}
)

// playedDevice is the i-th device of a fleet that looks like one.
func playedDevice(i int, random *rand.Rand) *v1alpha1.Device {
	now := time.Now()
	kind := random.IntN(len(models))
	if i == 7 {
		kind = 0 // the one that deployments fail on
	}
	site := sites[random.IntN(len(sites))]
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{
		Name:              fmt.Sprintf("%s-%05d", []string{"pi", "pi", "nuc", "mini"}[kind], i),
		CreationTimestamp: metav1.NewTime(now.Add(-time.Duration(random.IntN(400*24)) * time.Hour)),
		Labels:            map[string]string{"site": site, "tier": []string{"prod", "prod", "prod", "staging", "lab"}[random.IntN(5)], "floor": fmt.Sprint(random.IntN(4))},
	}}
	d.Labels[v1alpha1.LabelDeviceID] = d.Name
	agent := "v1.8.2"
	if random.IntN(9) == 0 {
		agent = "v1.8.1"
	}
	d.Status.Inventory = v1alpha1.Inventory{Hostname: d.Name, OS: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.12.34+rpt-rpi-v8", Architecture: arches[kind],
		Model: models[kind], CPUs: 4, MemoryBytes: 8 << 30, DiskBytes: 62 << 30, AgentVersion: agent, PodmanVersion: "4.3.1", CgroupsVersion: "v2", ContainerEngine: "podman"}
	beat := metav1.NewTime(now.Add(-time.Duration(random.IntN(290)) * time.Second))
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonHeartbeat, Message: "heartbeats arrive",
		LastTransitionTime: metav1.NewTime(now.Add(-time.Duration(random.IntN(4000)) * time.Minute))}
	switch n := random.IntN(1000); {
	case site == "porto" || n < 6:
		at := now.Add(-time.Duration(20+random.IntN(30)) * time.Minute)
		if site != "porto" {
			at = now.Add(-time.Duration(random.IntN(90*60)) * time.Minute)
		}
		beat = metav1.NewTime(at)
		ready.Status, ready.Reason, ready.LastTransitionTime = metav1.ConditionFalse, v1alpha1.ReasonHeartbeatMissed, metav1.NewTime(at.Add(90*time.Second))
		ready.Message = "no heartbeat since " + at.UTC().Format(time.RFC3339) + ", for more than 1m30s"
	case n < 8:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonNeverSeen, "no heartbeat has arrived yet"
		d.Status.Inventory, beat = v1alpha1.Inventory{}, metav1.Time{}
	case n == 8 && i%4 == 0:
		d.Status.Conditions = append(d.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionIdentityConflict, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMachineIDMismatch,
			Message:            "a report from machine \"9f2c41aa\" is refused: the device is registered to machine \"5d1e0b77\". Give that machine an id of its own, or clear spec.machineId if it replaces the registered one",
			LastTransitionTime: metav1.NewTime(now.Add(-3 * time.Hour))})
	}
	d.Status.Conditions = append(d.Status.Conditions, ready)
	if !beat.IsZero() {
		d.Status.LastHeartbeat = &beat
	}
	return d
}

// playedDeployment is the i-th deployment of such a fleet of so many devices.
func playedDeployment(i, devices int, random *rand.Rand) *v1alpha1.Deployment {
	now := time.Now()
	app := apps[i%len(apps)]
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: "default", Generation: int64(1 + random.IntN(9)),
		CreationTimestamp: metav1.NewTime(now.Add(-time.Duration(random.IntN(90*24)) * time.Hour))}}
	site := sites[random.IntN(len(sites))]
	if i >= len(apps) {
		d.Name = fmt.Sprintf("%s-%s-%d", app, site, i)
		d.Namespace = []string{"default", "retail", "factory"}[random.IntN(3)]
	}
	d.Spec.TargetSelector.MatchLabels = map[string]v1alpha1.LabelValue{"site": v1alpha1.LabelValue(site)}
	share := len(sites)
	if i >= len(apps) { // few are for whole sites
		d.Spec.TargetSelector.MatchLabels["floor"] = v1alpha1.LabelValue(fmt.Sprint(random.IntN(4)))
		d.Spec.TargetSelector.MatchLabels["tier"] = v1alpha1.LabelValue([]string{"prod", "staging", "lab"}[random.IntN(3)])
		share *= 4 * 3
	}
	version := fmt.Sprintf("%d.%d.%d", 1+random.IntN(3), random.IntN(12), random.IntN(6))
	d.Spec.Score.Type = "PodmanV0"
	d.Spec.Score.Data.Services = []v1alpha1.Service{{Name: app, Image: "registry.example.com/edge/" + app + ":" + version, Ports: []v1alpha1.Port{"8080:80"}, RestartPolicy: "unless-stopped",
		Env: []v1alpha1.EnvVar{{Name: "SITE", Value: site}}}}
	matched := int32(devices/share + random.IntN(9))
	matched = max(matched, 1)
	a := v1alpha1.Aggregate{MatchedDeviceCount: matched, Succeeded: matched}
	c := metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllRunning, Message: fmt.Sprintf("all of %d devices run it", matched),
		LastTransitionTime: metav1.NewTime(now.Add(-time.Duration(random.IntN(3000)) * time.Minute))}
	switch n := random.IntN(100); {
	case i == 1 || n == 0:
		a.Failed = min(matched, 1+int32(random.IntN(int(matched/3)+1)))
		a.Succeeded -= a.Failed
		a.LastError = &v1alpha1.DeviceError{DeviceID: "pi-00007", At: metav1.NewTime(now.Add(-4 * time.Minute)),
			Message: "pull registry.example.com/edge/" + app + ":" + version + ": manifest unknown"}
		c.Status, c.Reason = metav1.ConditionFalse, v1alpha1.ReasonDevicesFailed
		c.Message = fmt.Sprintf("%d of %d failed", a.Failed, matched)
	case i == 2 || n < 3:
		a.Pending = min(matched, matched/2+1)
		a.Succeeded -= a.Pending
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonDevicesPending, fmt.Sprintf("waiting for %d devices", a.Pending)
	case n == 5:
		a = v1alpha1.Aggregate{}
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, v1alpha1.ReasonNoMatch, "no device has labels that targetSelector matches"
	}
	d.Status = v1alpha1.DeploymentStatus{ObservedGeneration: d.Generation, Aggregate: a, Ready: fmt.Sprintf("%d/%d", a.Succeeded, a.MatchedDeviceCount), Conditions: []metav1.Condition{c}}
	return d
}

// play fills a store with a fleet; the same numbers give the same fleet.
func play(s *fleet.Store, devices, deployments int) {
	random := rand.New(rand.NewPCG(7, 7))
	var all []*v1alpha1.Device
	for i := range devices {
		all = append(all, playedDevice(i, random))
	}
	for i := range deployments {
		d := playedDeployment(i, devices, random)
		if i == 2 {
			playRollout(d)
		}
		if i == 1 && devices > 7 {
			all[7].Labels["site"] = string(d.Spec.TargetSelector.MatchLabels["site"])
		}
		s.PutDeployment(d)
	}
	for _, d := range all {
		s.PutDevice(d)
	}
}
