//go:build apiserver

package operator_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/operatortest"
)

type labels = map[string]v1alpha1.LabelValue

func (f *fleet) wantStatus(d *v1alpha1.Deployment, ready string, checks ...func(*v1alpha1.Deployment) string) *v1alpha1.Deployment {
	f.Helper()
	var live *v1alpha1.Deployment
	f.eventually("status of "+d.Namespace+"/"+d.Name+" is "+ready, func() string {
		live = f.reload(d)
		if live.Status.Ready != ready || live.Status.ObservedGeneration != live.Generation {
			return fmt.Sprintf("%q at generation %d of %d, %+v", live.Status.Ready, live.Status.ObservedGeneration, live.Generation, live.Status.Aggregate)
		}
		for _, check := range checks {
			if s := check(live); s != "" {
				return s
			}
		}
		return ""
	})
	a := live.Status.Aggregate
	if a.MatchedDeviceCount != a.Succeeded+a.Failed+a.Pending {
		f.Errorf("the aggregate does not add up: %+v", a)
	}
	return live
}

func holds(condition, status, reason string) func(*v1alpha1.Deployment) string {
	return func(d *v1alpha1.Deployment) string {
		c := meta.FindStatusCondition(d.Status.Conditions, condition)
		if c == nil || string(c.Status) != status || c.Reason != reason {
			return fmt.Sprintf("%s is %+v, not %s %s", condition, c, status, reason)
		}
		return ""
	}
}

func running(d *v1alpha1.Deployment) wire.DeploymentState {
	return wire.DeploymentState{Name: d.Name, UID: string(d.UID), Generation: d.Generation, Phase: wire.PhaseRunning, Since: time.Now()}
}

func TestFromInfoToRunning(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.device("pi-2", map[string]string{"site": "paris"})
	d := f.deploy("default", "hello", "nginx:1", labels{"site": "lyon"})
	f.wantTold("pi-1: hello; pi-2:")
	f.wantStatus(d, "0/1", holds("Available", "False", "DevicesPending"), holds("Progressing", "True", "DevicesPending"))
	dev := f.getDevice("pi-1")
	if dev.Labels["device-id"] != "pi-1" || dev.Labels["site"] != "lyon" || dev.Status.Inventory.Architecture != "arm64" || dev.Spec.MachineID != "machine-pi-1" {
		t.Errorf("device %+v", dev)
	}
	f.eventually("pi-1 is ready", func() string {
		if dev := f.getDevice("pi-1"); !meta.IsStatusConditionTrue(dev.Status.Conditions, "Ready") || dev.Status.LastHeartbeat == nil {
			return fmt.Sprintf("%+v", dev.Status)
		}
		return ""
	})

	f.reportState("pi-1", f.revision("pi-1"), running(d))
	f.wantStatus(d, "1/1", holds("Available", "True", "AllDevicesRunning"), holds("Degraded", "False", "AsDesired"))

	failed := running(d)
	failed.Phase, failed.Message = wire.PhaseFailed, "no such image"
	f.reportState("pi-1", f.revision("pi-1"), failed)
	live := f.wantStatus(d, "0/1", holds("Degraded", "True", "DevicesFailed"))
	if e := live.Status.Aggregate.LastError; e == nil || e.DeviceID != "pi-1" || e.Message != "no such image" {
		t.Errorf("last error %+v", e)
	}
	f.reportState("pi-1", f.revision("pi-1"), running(d))
	if live := f.wantStatus(d, "1/1"); live.Status.Aggregate.LastError != nil {
		t.Errorf("the last error stays: %+v", live.Status.Aggregate.LastError)
	}

	f.patch(d, `{"spec":{"score":{"data":{"services":[{"name":"web","image":"nginx:2"}]}}}}`)
	f.wantStatus(d, "0/1", holds("Progressing", "True", "DevicesPending"))
	f.wantTold("pi-1: hello; pi-2:")

	if err := f.client.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f.eventually("the deployment is gone", func() string {
		if live := f.reload(d); live.UID != "" {
			return fmt.Sprintf("there with %v", live.Finalizers)
		}
		return ""
	})
	if got, err := f.told(); err != nil || got != "pi-1:; pi-2:" {
		t.Errorf("when it is gone the store still has %q (%v)", got, err)
	}
}

func TestRelabellingMoves(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.device("pi-2", map[string]string{"site": "paris"})
	f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello; pi-2:")

	f.patch(f.getDevice("pi-2"), `{"metadata":{"labels":{"site":"lyon"}}}`)
	f.wantTold("pi-1: hello; pi-2: hello")
	f.patch(f.getDevice("pi-1"), `{"metadata":{"labels":{"site":"orly"}}}`)
	f.wantTold("pi-1:; pi-2: hello")

	// What the administrator set survives what the agent says.
	f.device("pi-1", map[string]string{"site": "lyon", "rack": "7"})
	f.eventually("pi-1 has a rack", func() string {
		if dev := f.getDevice("pi-1"); dev.Labels["rack"] != "7" {
			return fmt.Sprint(dev.Labels)
		}
		return ""
	})
	if dev := f.getDevice("pi-1"); dev.Labels["site"] != "orly" {
		t.Errorf("the agent took back the administrator's label: %v", dev.Labels)
	}
	// A label of the agent's that it no longer has goes.
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.eventually("pi-1 has no rack", func() string {
		if dev := f.getDevice("pi-1"); dev.Labels["rack"] != "" {
			return fmt.Sprint(dev.Labels)
		}
		return ""
	})
	if dev := f.getDevice("pi-1"); dev.Labels["site"] != "orly" || dev.Labels["device-id"] != "pi-1" {
		t.Errorf("labels %v", dev.Labels)
	}
}

func TestSelectorChangedWhileDownLeavesNoKey(t *testing.T) {
	f := newFleet(t)
	stop := f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.device("pi-2", map[string]string{"site": "paris"})
	d := f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	other := f.deploy("default", "other", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello, other; pi-2:")
	stop()

	f.patch(d, `{"spec":{"targetSelector":{"matchLabels":{"site":"paris"}}}}`)
	f.patch(other, `{"metadata":{"finalizers":null}}`)
	if err := f.client.Delete(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	before := len(f.store.Writes())
	stop = f.start()
	f.wantTold("pi-1:; pi-2: hello")
	writes := f.store.Writes()[before:]
	if !slices.Equal(slices.Sorted(slices.Values(writes)), []string{"del pi-1.hello", "del pi-1.other", "put pi-1", "put pi-2", "put pi-2.hello"}) {
		t.Errorf("writes %v", writes)
	}
	if slices.Index(writes, "put pi-1") > slices.Index(writes, "del pi-1.hello") {
		t.Errorf("a key was removed before the manifest: %v", writes)
	}
	stop()

	// Nothing changed: nothing is written.
	before = len(f.store.Writes())
	f.start()
	f.device("pi-3", nil)
	f.wantTold("pi-1:; pi-2: hello; pi-3:")
	if writes := f.store.Writes()[before:]; !slices.Equal(writes, []string{"put pi-3"}) {
		t.Errorf("a restart wrote %v", writes)
	}
}

func TestStoreIsRebuiltFromTheAPI(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello")
	before := f.revision("pi-1")
	f.store.Wipe()
	f.wantTold("pi-1: hello")
	if after := f.revision("pi-1"); after <= before {
		t.Errorf("revision went from %d to %d", before, after)
	}
	// A store restored from an old copy: the device has seen a newer revision.
	ahead := f.revision("pi-1") + 1_000_000
	f.reportState("pi-1", ahead)
	f.eventually("a newer manifest is written", func() string {
		if r := f.revision("pi-1"); r <= ahead {
			return fmt.Sprint(r)
		}
		return ""
	})
	f.wantTold("pi-1: hello")
}

func TestStoreThatFails(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.wantTold("pi-1:")
	f.store.Fail(errors.New("the disk is full"))
	d := f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.wantStatus(d, "0/1")
	if err := f.client.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f.store.Fail(nil)
	f.eventually("the deployment is gone", func() string {
		return map[bool]string{false: "there"}[f.reload(d).UID == ""]
	})
	f.wantTold("pi-1:")
}

func TestOldestHasTheName(t *testing.T) {
	f := newFleet(t)
	f.start()
	kube, err := kubernetes.NewForConfig(operatortest.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a-later"}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.device("pi-2", map[string]string{"site": "paris"})
	first := f.deploy("default", "hello", "nginx:first", labels{"site": "lyon"})
	f.wantTold("pi-1: hello; pi-2:")
	time.Sleep(1100 * time.Millisecond) // creation times have seconds
	second := f.deploy("a-later", "hello", "nginx:second", labels{"site": "paris"})
	f.wantStatus(second, "0/0", holds("NameConflict", "True", "NameTaken"), holds("Available", "False", "NameTaken"))
	f.wantStatus(first, "0/1", holds("NameConflict", "False", "NameUnique"))
	f.wantTold("pi-1: hello; pi-2:")
	f.eventually("an event tells of it", func() string {
		list, err := kube.EventsV1().Events("a-later").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err.Error()
		}
		for _, e := range list.Items {
			if e.Reason == "NameTaken" && e.Regarding.Name == "hello" {
				return ""
			}
		}
		return fmt.Sprint(len(list.Items), " others")
	})

	if err := f.client.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	f.wantTold("pi-1:; pi-2: hello")
	f.wantStatus(second, "0/1", holds("NameConflict", "False", "NameUnique"))
	f.eventually("the first is gone", func() string {
		return map[bool]string{false: "there"}[f.reload(first).UID == ""]
	})
}

func TestInvalidSpecKeepsWhatRuns(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	d := f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello")
	before := f.store.Snapshot()["pi-1.hello"]

	// Two services that want one host port: what no rule of the API sees.
	f.patch(d, `{"spec":{"score":{"data":{"services":[{"name":"a","image":"x","ports":["80:80"]},{"name":"b","image":"x","ports":["80:81"]}]}}}}`)
	f.wantStatus(d, "0/1", holds("Degraded", "True", "InvalidSpec"), holds("Available", "False", "InvalidSpec"))
	f.wantTold("pi-1: hello")
	if after := f.store.Snapshot()["pi-1.hello"]; string(after) != string(before) {
		t.Errorf("the device was told %s", after)
	}
	f.patch(d, `{"spec":{"score":{"data":{"services":[{"name":"a","image":"x","ports":["80:80"]}]}}}}`)
	f.wantStatus(d, "0/1", holds("Degraded", "False", "AsDesired"))
	f.wantTold("pi-1: hello")
	if after := f.store.Snapshot()["pi-1.hello"]; string(after) == string(before) {
		t.Error("the corrected spec did not arrive")
	}
}

func TestAnotherMachineIsRefused(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.wantTold("pi-1:")
	f.eventually("pi-1 is ready", func() string {
		return map[bool]string{false: "not"}[meta.IsStatusConditionTrue(f.getDevice("pi-1").Status.Conditions, "Ready")]
	})
	f.reportInfo("pi-1", "another", map[string]string{"site": "paris"})
	conflict := func() string {
		dev := f.getDevice("pi-1")
		if c := meta.FindStatusCondition(dev.Status.Conditions, "IdentityConflict"); c == nil || c.Status != metav1.ConditionTrue || c.Reason != "MachineIDMismatch" {
			return fmt.Sprintf("%+v", c)
		}
		return ""
	}
	f.eventually("the conflict is shown", conflict)
	if dev := f.getDevice("pi-1"); dev.Labels["site"] != "lyon" || dev.Spec.MachineID != "machine-pi-1" {
		t.Errorf("the other machine's report was taken: %v %v", dev.Labels, dev.Spec)
	}
	// The machine is replaced on purpose, by an enrolment.
	f.patch(f.getDevice("pi-1"), `{"spec":{"machineId":"another"}}`)
	f.eventually("the new machine's report is taken", func() string {
		dev := f.getDevice("pi-1")
		if dev.Spec.MachineID != "another" || dev.Labels["site"] != "paris" || conflict() == "" {
			return fmt.Sprintf("%+v %v", dev.Spec, dev.Labels)
		}
		return ""
	})
}

func TestSilenceIsNoticed(t *testing.T) {
	f := newFleet(t)
	f.timing.HeartbeatTimeout = 500 * time.Millisecond
	f.start()
	f.device("pi-1", nil)
	ready := func(want metav1.ConditionStatus, reason string) {
		t.Helper()
		f.eventually("Ready is "+reason, func() string {
			if want == metav1.ConditionTrue { // until the operator has come to look
				beat := wire.Heartbeat{SchemaVersion: 1, Device: "pi-1", At: time.Now()}
				if err := f.store.Put(wire.BucketHeartbeat, wire.HeartbeatKey("pi-1"), beat); err != nil {
					t.Fatal(err)
				}
			}
			c := meta.FindStatusCondition(f.getDevice("pi-1").Status.Conditions, "Ready")
			if c == nil || c.Status != want || c.Reason != reason {
				return fmt.Sprintf("%+v", c)
			}
			return ""
		})
	}
	ready(metav1.ConditionTrue, "HeartbeatReceived")
	ready(metav1.ConditionFalse, "HeartbeatMissed")
	f.device("pi-1", nil)
	ready(metav1.ConditionTrue, "HeartbeatReceived")
}

// A device is not connected: its status says so at once, and what that means.
func TestPresence(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", nil)
	f.deviceHolds("pi-1", "Connected", "True", "Connected")
	f.deviceHolds("pi-1", "Ready", "True", "HeartbeatReceived")
	f.links.connected("pi-1", false)
	f.deviceHolds("pi-1", "Connected", "False", "Disconnected")
	f.deviceHolds("pi-1", "Ready", "False", "Disconnected")
	f.links.connected("pi-1", true)
	f.deviceHolds("pi-1", "Ready", "True", "HeartbeatReceived")

	// While nobody can tell, what was known stays.
	f.links.sure(false)
	f.links.connected("pi-1", false)
	f.patch(f.getDevice("pi-1"), `{"metadata":{"labels":{"some":"change"}}}`)
	f.device("pi-2", nil)
	f.deviceHolds("pi-2", "Ready", "True", "HeartbeatReceived")
	if c := meta.FindStatusCondition(f.getDevice("pi-2").Status.Conditions, "Connected"); c != nil {
		t.Errorf("without presence a new device is %+v", c)
	}
	f.deviceHolds("pi-1", "Connected", "True", "Connected")
	f.links.sure(true)
	f.deviceHolds("pi-1", "Connected", "False", "Disconnected")

	f.patch(f.getDevice("pi-2"), `{"spec":{"revoked":"2026-11-25T12:00:00Z"}}`)
	f.deviceHolds("pi-2", "Ready", "False", "Revoked")
	f.patch(f.getDevice("pi-2"), `{"spec":{"enrolled":null,"revoked":null}}`)
	f.deviceHolds("pi-2", "Ready", "False", "NotEnrolled")
}

// What a device's UpToDate says, as its reports come in.
func TestWhatBlocksADevice(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.deviceHolds("pi-1", "UpToDate", "Unknown", "NoReport")
	d := f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	other := f.deploy("default", "other", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello, other")
	f.reportState("pi-1", 1)
	f.deviceHolds("pi-1", "UpToDate", "False", "ManifestPending")
	f.reportState("pi-1", f.revision("pi-1"), running(d))
	f.deviceHolds("pi-1", "UpToDate", "False", "DeploymentsPending", "other")
	failed := running(other)
	failed.Phase, failed.Message = wire.PhaseFailed, "no such image"
	f.reportState("pi-1", f.revision("pi-1"), running(d), failed)
	f.deviceHolds("pi-1", "UpToDate", "False", "DeploymentsFailed", "other: no such image")
	f.reportState("pi-1", f.revision("pi-1"), running(d), running(other))
	f.deviceHolds("pi-1", "UpToDate", "True", "UpToDate")

	if c := meta.FindStatusCondition(f.getDevice("pi-1").Status.Conditions, "Warning"); c != nil {
		t.Errorf("a device that never warned has %+v", c)
	}
	f.warn("pi-1", "the disk is nearly full", "a clock is wrong")
	f.deviceHolds("pi-1", "Warning", "True", "AgentWarns", "the disk is nearly full; a clock is wrong")
	f.warn("pi-1", "a clock is wrong")
	f.eventually("one warning less", func() string {
		if m := meta.FindStatusCondition(f.getDevice("pi-1").Status.Conditions, "Warning").Message; m != "a clock is wrong" {
			return m
		}
		return ""
	})
	f.warn("pi-1")
	f.deviceHolds("pi-1", "Warning", "False", "NoWarning")
}

// warn reports what a device warns of.
func (f *fleet) warn(id string, warnings ...string) {
	f.Helper()
	s := wire.DeviceState{SchemaVersion: 1, Device: id, Revision: f.revision(id), At: time.Now(), Warnings: warnings}
	if err := f.store.Put(wire.BucketState, wire.StateKey(id), s); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) deviceHolds(id, name, status, reason string, message ...string) {
	f.Helper()
	f.eventually(fmt.Sprintf("%s of %s is %s %s", name, id, status, reason), func() string {
		c := meta.FindStatusCondition(f.getDevice(id).Status.Conditions, name)
		if c == nil || string(c.Status) != status || c.Reason != reason {
			return fmt.Sprintf("%+v", c)
		}
		for _, part := range message {
			if !strings.Contains(c.Message, part) {
				return fmt.Sprintf("%+v", c)
			}
		}
		return ""
	})
}

func TestDeletedDeviceIsOffboarded(t *testing.T) {
	f := newFleet(t)
	f.timing.OffboardGrace = time.Hour
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	d := f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello")
	f.reportState("pi-1", f.revision("pi-1"), running(d))
	if err := f.client.Delete(t.Context(), f.getDevice("pi-1")); err != nil {
		t.Fatal(err)
	}
	f.wantTold("pi-1:")
	f.wantStatus(d, "0/0", holds("Available", "False", "NoDeviceMatches"))
	if f.getDevice("pi-1").UID == "" || len(f.shutOut) > 0 {
		t.Error("the device went before it said that it had heard")
	}
	f.reportState("pi-1", f.revision("pi-1"), running(d)) // it stops in its own time
	f.gone("pi-1")
	if want := []string{"key of pi-1", "link of pi-1"}; !slices.Equal(f.shutOut, want) {
		t.Errorf("shut out: %v, want %v", f.shutOut, want)
	}
	if got := f.store.Snapshot(); len(got) != 0 {
		t.Errorf("keys stay: %v", got)
	}
	if _, err := f.store.Get(t.Context(), wire.BucketInfo, wire.InfoKey("pi-1")); err == nil {
		t.Error("its info stays")
	}
	// It writes once more, with a connection that is just being cut.
	f.reportInfo("pi-1", "machine-pi-1", nil)
	f.eventually("what it wrote is removed", func() string {
		_, err := f.store.Get(t.Context(), wire.BucketInfo, wire.InfoKey("pi-1"))
		return map[bool]string{false: "there"}[errors.Is(err, kv.ErrNotFound)]
	})
	if f.getDevice("pi-1").UID != "" {
		t.Error("a report made a Device")
	}
}

// A device that never hears keeps nobody waiting for long.
func TestDeletedDeviceThatIsOffline(t *testing.T) {
	f := newFleet(t)
	f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello")
	if err := f.client.Delete(t.Context(), f.getDevice("pi-1")); err != nil {
		t.Fatal(err)
	}
	f.gone("pi-1")
	if got := f.store.Snapshot(); len(got) != 0 {
		t.Errorf("keys stay: %v", got)
	}
}

// A Device may be removed past its finalizer, and while no operator is there.
func TestDeviceThatIsJustGoneLeavesNoKey(t *testing.T) {
	f := newFleet(t)
	stop := f.start()
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.device("pi-2", map[string]string{"site": "lyon"})
	f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello; pi-2: hello")
	drop := func(id string) {
		t.Helper()
		f.patch(f.getDevice(id), `{"metadata":{"finalizers":null}}`)
		if err := client.IgnoreNotFound(f.client.Delete(t.Context(), f.getDevice(id))); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	drop("pi-1")
	f.start()
	f.wantTold("pi-2: hello")
	drop("pi-2")
	f.wantTold("")
}

func (f *fleet) gone(id string) {
	f.Helper()
	f.eventually(id+" is gone", func() string {
		return map[bool]string{false: "there"}[f.getDevice(id).UID == ""]
	})
}

func TestOnlyTheLeaderWrites(t *testing.T) {
	f := newFleet(t)
	first, stop := f.run(&operator.LeaderElection{Namespace: "fleet-system", Identity: "a"})
	<-first.Ready()
	second, _ := f.run(&operator.LeaderElection{Namespace: "fleet-system", Identity: "b"})
	f.device("pi-1", map[string]string{"site": "lyon"})
	d := f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.wantTold("pi-1: hello")
	f.wantStatus(d, "0/1")
	select {
	case <-second.Ready():
		t.Fatal("two operators lead")
	default:
	}
	before := f.store.Writes()
	if !slices.Equal(before[len(before)-2:], []string{"put pi-1.hello", "put pi-1"}) {
		t.Errorf("writes %v", before)
	}
	stop()
	select {
	case <-second.Ready():
	case <-time.After(deadline):
		t.Fatal("nobody took over")
	}
	if err := f.client.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f.wantTold("pi-1:")
	writes := f.store.Writes()[len(before):]
	if !slices.Equal(writes, []string{"put pi-1", "del pi-1.hello"}) {
		t.Errorf("the new leader wrote %v", writes)
	}
}
