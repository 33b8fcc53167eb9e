//go:build apiserver

package operator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/rollout/control"
)

// troupe plays devices: each does what the store tells it, and says so.
type troupe struct {
	*fleet
	mu      sync.Mutex
	offline map[string]bool
	ran     map[string][]string // by device: the images that it was told, in order
	ids     []string
}

// play starts n devices that live until the test ends. An image with "bad" in
// its name fails on every device.
func (f *fleet) play(n int, labels map[string]string) *troupe {
	f.Helper()
	tr := &troupe{fleet: f, offline: map[string]bool{}, ran: map[string][]string{}}
	for i := range n {
		id := fmt.Sprintf("pi-%d", i+1)
		tr.ids = append(tr.ids, id)
		f.device(id, labels)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
			tr.act()
		}
	}()
	f.Cleanup(func() { cancel(); <-done })
	return tr
}

func (tr *troupe) act() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	snapshot := tr.store.Snapshot()
	for _, id := range tr.ids {
		if tr.offline[id] {
			continue
		}
		s := wire.DeviceState{SchemaVersion: 1, Device: id, Revision: revisionIn(snapshot[id]), At: time.Now(), Deployments: []wire.DeploymentState{}}
		for key, data := range snapshot {
			device, name, ok := wire.ParseDesiredKey(key)
			if !ok || device != id || name == "" {
				continue
			}
			var desired wire.DesiredState
			if err := json.Unmarshal(data, &desired); err != nil {
				tr.Error(err)
			}
			image := imageOf(desired.Score.Data)
			if ran := tr.ran[id]; len(ran) == 0 || ran[len(ran)-1] != image {
				tr.ran[id] = append(ran, image)
			}
			phase, message := wire.PhaseRunning, ""
			if strings.Contains(image, "bad") {
				phase, message = wire.PhaseFailed, "exited with code 1"
			}
			s.Deployments = append(s.Deployments, wire.DeploymentState{
				Name: name, UID: desired.UID, Generation: desired.Generation, Phase: phase, Message: message, Since: time.Now().Add(-time.Minute),
			})
		}
		if len(snapshot) > 0 { // before, it has not even looked
			if err := tr.store.Put(wire.BucketState, wire.StateKey(id), s); err != nil {
				tr.Error(err)
			}
		}
		beat := wire.Heartbeat{SchemaVersion: 1, Device: id, At: time.Now()}
		if err := tr.store.Put(wire.BucketHeartbeat, wire.HeartbeatKey(id), beat); err != nil {
			tr.Error(err)
		}
	}
}

// revisionIn reads a manifest; 0 for none.
func revisionIn(sealed []byte) uint64 {
	var e wire.Envelope
	var m wire.Manifest
	if json.Unmarshal(sealed, &e) != nil || json.Unmarshal(e.Payload, &m) != nil {
		return 0
	}
	return m.Revision
}

func imageOf(data json.RawMessage) string {
	var score struct {
		Services []struct {
			Image string `json:"image"`
		} `json:"services"`
	}
	if json.Unmarshal(data, &score) != nil || len(score.Services) == 0 {
		return "?"
	}
	return score.Services[0].Image
}

func (tr *troupe) setOffline(id string, offline bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.offline[id] = offline
	tr.links.connected(id, !offline)
}

// history is what each device was told, such as "pi-1: v1 v2; pi-2: v1".
func (tr *troupe) history() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var out []string
	for _, id := range tr.ids {
		out = append(out, id+": "+strings.Join(tr.ran[id], " "))
	}
	return strings.Join(out, "; ")
}

func (tr *troupe) wantHistory(want string) {
	tr.Helper()
	tr.eventually("devices were told "+want, func() string {
		if got := tr.history(); got != want {
			return got
		}
		return ""
	})
}

func (f *fleet) deployRollout(image string, r v1alpha1.Rollout) *v1alpha1.Deployment {
	f.Helper()
	d := f.deploy("default", "hello", image, labels{"site": "lyon"})
	base := client.MergeFrom(d.DeepCopy())
	d.Spec.Rollout = &r
	if err := f.client.Patch(f.Context(), d, base); err != nil {
		f.Fatal(err)
	}
	return d
}

func (f *fleet) setImage(d *v1alpha1.Deployment, image string) {
	f.Helper()
	f.patch(d, `{"spec":{"score":{"data":{"services":[{"name":"web","image":"`+image+`"}]}}}}`)
}

func (f *fleet) wantRollout(d *v1alpha1.Deployment, phase v1alpha1.RolloutPhase, revision int64) *v1alpha1.RolloutStatus {
	f.Helper()
	var got *v1alpha1.RolloutStatus
	f.eventually(fmt.Sprintf("rollout %s of revision %d", phase, revision), func() string {
		got = f.reload(d).Status.Rollout
		if got == nil || got.Phase != phase || got.Revision != revision {
			return fmt.Sprintf("%+v", got)
		}
		return ""
	})
	return got
}

func two() v1alpha1.Rollout {
	return v1alpha1.Rollout{
		Batch: ptr.To(intstr.FromInt32(2)), MaxUnavailable: ptr.To(intstr.FromInt32(2)),
		MinReadySeconds: ptr.To[int32](0), ProgressDeadlineSeconds: ptr.To[int32](3),
	}
}

func TestRolloutAndHistory(t *testing.T) {
	f := newFleet(t)
	stop := f.start()
	tr := f.play(5, map[string]string{"site": "lyon"})
	d := f.deployRollout("v1", two())
	f.wantRollout(d, v1alpha1.RolloutComplete, 1)
	tr.wantHistory("pi-1: v1; pi-2: v1; pi-3: v1; pi-4: v1; pi-5: v1")

	f.setImage(d, "v2")
	f.wantRollout(d, v1alpha1.RolloutComplete, 2)
	f.wantStatus(d, "5/5", holds("Available", "True", "AllDevicesRunning"), holds("Progressing", "False", "RolloutComplete"))

	// Another selector and a pause say nothing to devices.
	before := len(f.store.Writes())
	key := client.ObjectKeyFromObject(d)
	if changed, err := control.Pause(t.Context(), f.client, key); err != nil || !changed {
		t.Fatal(changed, err)
	}
	f.patch(d, `{"spec":{"targetSelector":{"matchLabels":{"site":"lyon"},"matchExpressions":[{"key":"device-id","operator":"Exists"}]}}}`)
	f.wantStatus(d, "5/5")
	if writes := f.store.Writes()[before:]; len(writes) != 0 {
		t.Errorf("devices are told %v", writes)
	}

	// Paused, a new revision goes nowhere, over a restart too.
	f.setImage(d, "v3")
	f.wantRollout(d, v1alpha1.RolloutPaused, 3)
	f.deviceHolds("pi-1", "UpToDate", "False", "WaitingForRollout", "hello")
	stop()
	f.start()
	f.wantRollout(d, v1alpha1.RolloutPaused, 3)
	if writes := f.store.Writes()[before:]; len(writes) != 0 {
		t.Errorf("paused, devices are told %v", writes)
	}
	back, err := control.Undo(t.Context(), f.client, key, 1)
	if err != nil || back.Number != 1 {
		t.Fatal(back, err)
	}
	if _, err := control.Resume(t.Context(), f.client, key); err != nil {
		t.Fatal(err)
	}
	f.wantRollout(d, v1alpha1.RolloutComplete, 4)
	tr.wantHistory("pi-1: v1 v2 v1; pi-2: v1 v2 v1; pi-3: v1 v2 v1; pi-4: v1 v2 v1; pi-5: v1 v2 v1")
	f.deviceHolds("pi-1", "UpToDate", "True", "UpToDate")
	f.wantHistory(d, "4 v1 current stable; 3 v3; 2 v2")

	// A restart is a revision of its own with the same content.
	if err := control.Restart(t.Context(), f.client, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	f.wantRollout(d, v1alpha1.RolloutComplete, 5)
	f.wantHistory(d, "5 v1 current stable; 4 v1; 3 v3; 2 v2")
	var restarted wire.DesiredState
	if err := json.Unmarshal(f.store.Snapshot()[wire.DesiredKey("pi-1", "hello")], &restarted); err != nil || !strings.Contains(string(restarted.Score.Data), `"restarted-at"`) {
		t.Errorf("a restart tells devices %s, %v", restarted.Score.Data, err)
	}

	// The history is bounded.
	f.patch(d, `{"spec":{"revisionHistoryLimit":1}}`)
	f.setImage(d, "v5")
	f.wantRollout(d, v1alpha1.RolloutComplete, 6)
	f.wantHistory(d, "6 v5 current stable; 5 v1")

	// Without a rollout all get a change at once, and the status goes.
	f.patch(d, `{"spec":{"rollout":null}}`)
	f.setImage(d, "v6")
	f.wantStatus(d, "5/5", func(d *v1alpha1.Deployment) string {
		return map[bool]string{true: "status.rollout is there"}[d.Status.Rollout != nil]
	})
	if _, err := control.Pause(t.Context(), f.client, key); err == nil {
		t.Error("what does not roll is paused")
	}
	f.wantHistory(d, "7 v6 current; 6 v5")
}

func (f *fleet) wantHistory(d *v1alpha1.Deployment, want string) {
	f.Helper()
	f.eventually("history "+want, func() string {
		revisions, err := control.History(f.Context(), f.client, f.reload(d))
		if err != nil {
			return err.Error()
		}
		var out []string
		for _, r := range revisions {
			text := fmt.Sprint(r.Number, " ", strings.Join(r.Images(), ","))
			if r.Current {
				text += " current"
			}
			if r.Stable {
				text += " stable"
			}
			out = append(out, text)
		}
		if got := strings.Join(out, "; "); got != want {
			return got
		}
		return ""
	})
}

func TestCrashLoopIsRolledBack(t *testing.T) {
	f := newFleet(t)
	stop := f.start()
	tr := f.play(6, map[string]string{"site": "lyon"})
	r := two()
	r.AutoRollback = true
	d := f.deployRollout("v1", r)
	f.wantRollout(d, v1alpha1.RolloutComplete, 1)
	f.setImage(d, "bad")
	got := f.wantRollout(d, v1alpha1.RolloutRolledBack, 2)
	if got.StableRevision != 1 || !strings.Contains(got.Message, "exited with code 1") {
		t.Errorf("%+v", got)
	}
	tr.wantHistory("pi-1: v1 bad v1; pi-2: v1 bad v1; pi-3: v1; pi-4: v1; pi-5: v1; pi-6: v1")
	f.wantStatus(d, "0/6", holds("Degraded", "True", "RolledBack"), holds("Available", "False", "RolledBack"), holds("Progressing", "False", "RolledBack"))

	// It stays so, over a restart and for a device that joins.
	stop()
	f.start()
	f.device("pi-7", map[string]string{"site": "lyon"})
	tr.mu.Lock()
	tr.ids = append(tr.ids, "pi-7")
	tr.mu.Unlock()
	tr.wantHistory("pi-1: v1 bad v1; pi-2: v1 bad v1; pi-3: v1; pi-4: v1; pi-5: v1; pi-6: v1; pi-7: v1")

	f.setImage(d, "v2")
	f.wantRollout(d, v1alpha1.RolloutComplete, 3)
}

func TestOfflineCatchesUp(t *testing.T) {
	f := newFleet(t)
	f.start()
	tr := f.play(4, map[string]string{"site": "lyon"})
	d := f.deployRollout("v1", two())
	f.wantRollout(d, v1alpha1.RolloutComplete, 1)
	tr.setOffline("pi-1", true)
	f.setImage(d, "v2")
	got := f.wantRollout(d, v1alpha1.RolloutComplete, 2)
	if got.Offline != 1 || got.Ready != 3 {
		t.Errorf("%+v", got)
	}
	tr.wantHistory("pi-1: v1; pi-2: v1 v2; pi-3: v1 v2; pi-4: v1 v2")
	tr.setOffline("pi-1", false)
	tr.wantHistory("pi-1: v1 v2; pi-2: v1 v2; pi-3: v1 v2; pi-4: v1 v2")
	f.wantStatus(d, "4/4")
}

// TestWipeDuringRollout: the store is lost in the middle of a rollout, while no
// operator runs. Who was told what is known from the devices.
func TestWipeDuringRollout(t *testing.T) {
	f := newFleet(t)
	stop := f.start()
	tr := f.play(4, map[string]string{"site": "lyon"})
	d := f.deployRollout("v1", two())
	f.wantRollout(d, v1alpha1.RolloutComplete, 1)
	tr.setOffline("pi-4", true)
	f.setImage(d, "bad")
	failed := f.wantRollout(d, v1alpha1.RolloutFailed, 2)
	want := "pi-1: v1 bad; pi-2: v1 bad; pi-3: v1; pi-4: v1"
	tr.wantHistory(want)
	if failed.StableRevision != 1 {
		t.Errorf("%+v", failed)
	}
	told := f.store.Snapshot()
	stop()

	// Devices keep on their disks what they were told, and say so when they
	// are connected again. Until then nothing is concluded about them.
	tr.mu.Lock()
	states := map[string]wire.DeviceState{}
	for _, id := range tr.ids {
		var desired wire.DesiredState
		if err := json.Unmarshal(told[wire.DesiredKey(id, "hello")], &desired); err != nil {
			t.Fatal(err)
		}
		states[id] = wire.DeviceState{SchemaVersion: 1, Device: id, Revision: 1, At: time.Now(), Deployments: []wire.DeploymentState{
			{Name: "hello", UID: desired.UID, Generation: desired.Generation, Phase: wire.PhaseRunning, Since: time.Now()}}}
	}
	f.store.Wipe()
	f.start()
	tr.mu.Unlock()
	f.eventually("an operator leads again", func() string { return "" })
	for _, id := range []string{"pi-1", "pi-3"} {
		if err := f.store.Put(wire.BucketState, wire.StateKey(id), states[id]); err != nil {
			t.Fatal(err)
		}
	}
	f.eventually("those that said so have their keys again", func() string {
		now := f.store.Snapshot()
		for _, id := range []string{"pi-1", "pi-3"} {
			if string(now[wire.DesiredKey(id, "hello")]) != string(told[wire.DesiredKey(id, "hello")]) {
				return id + " has another"
			}
		}
		return ""
	})
	if now := f.store.Snapshot(); now["pi-4"] != nil || now[wire.DesiredKey("pi-4", "hello")] != nil {
		t.Error("something was concluded about a device that has said nothing")
	}
	if got := tr.history(); got != want {
		t.Errorf("devices were told %s", got)
	}
}

// TestGroups: each group goes through batches of its own.
func TestGroups(t *testing.T) {
	f := newFleet(t)
	f.start()
	tr := f.play(6, map[string]string{"site": "lyon"})
	for i, id := range tr.ids {
		f.eventually(id+" is there", func() string { return map[bool]string{true: "not yet"}[f.getDevice(id).UID == ""] })
		f.patch(f.getDevice(id), fmt.Sprintf(`{"metadata":{"labels":{"rack":"r%d"}}}`, i%2))
	}
	r := two()
	r.GroupBy, r.Batch = "rack", ptr.To(intstr.FromInt32(1))
	d := f.deployRollout("v1", r)
	f.wantRollout(d, v1alpha1.RolloutComplete, 1)
	f.setImage(d, "bad")
	got := f.wantRollout(d, v1alpha1.RolloutFailed, 2)
	tr.wantHistory("pi-1: v1 bad; pi-2: v1 bad; pi-3: v1; pi-4: v1; pi-5: v1; pi-6: v1")
	var names []string
	for _, g := range got.Groups {
		names = append(names, fmt.Sprintf("%s %d/%d", g.Name, g.Updated, g.Devices))
	}
	if !slices.Equal(names, []string{"r0 1/3", "r1 1/3"}) || got.Updated != 2 || got.Failed != 2 {
		t.Errorf("groups %q, %+v", names, got)
	}
}
