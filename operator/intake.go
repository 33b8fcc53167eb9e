package operator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// intake completes the picture when this operator becomes the one that acts,
// and keeps it complete: it follows the reports, notices devices that fall
// silent, and looks now and then whether the store still has what it should.
type intake struct {
	*core
	again chan struct{} // a watch had to begin anew: the store may have been wiped
	// suspects had keys and no object at the last audit.
	suspects map[string]bool
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (in *intake) NeedLeaderElection() bool { return true }

// Start implements manager.Runnable. It ends with ctx, or when a watch cannot
// go on.
func (in *intake) Start(ctx context.Context) error {
	in.registry.start(in.now())
	deployments, err := in.readAPI(ctx)
	if err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	synced := in.watch(gctx, group)
	group.Go(func() error {
		for _, bucket := range synced {
			select {
			case <-bucket:
			case <-gctx.Done():
				return nil
			}
		}
		signing := in.writer.signer.Changed()
		if !in.load(gctx) {
			return nil
		}
		close(in.loaded)
		in.catchUp(deployments)
		if in.links != nil {
			group.Go(func() error { in.links.Watch(gctx, in.linkChanged); return nil })
		}
		group.Go(func() error {
			in.patient.run(gctx, func(device string) {
				in.registry.giveTurn(device)
				in.devices.add(device)
			})
			return nil
		})
		in.tick(gctx, signing)
		return nil
	})
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("follow the devices' reports: %w", err)
	}
	return nil
}

// readAPI takes everything that the API has, before anything is concluded from
// what the store has.
func (in *intake) readAPI(ctx context.Context) ([]types.NamespacedName, error) {
	deviceList := &v1alpha1.DeviceList{}
	if err := in.client.List(ctx, deviceList); err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	for i := range deviceList.Items {
		if d := &deviceList.Items[i]; d.DeletionTimestamp == nil {
			in.takeDevice(d)
		}
	}
	// Before the Deployments: devices know their scores by them.
	revisions := &v1alpha1.DeploymentRevisionList{}
	if err := in.client.List(ctx, revisions); err != nil {
		return nil, fmt.Errorf("list revisions: %w", err)
	}
	for i := range revisions.Items {
		in.apply(in.model.setRevision(&revisions.Items[i]))
	}
	list := &v1alpha1.DeploymentList{}
	if err := in.client.List(ctx, list); err != nil {
		return nil, fmt.Errorf("list deployments: %w", err)
	}
	var keys []types.NamespacedName
	for i := range list.Items {
		d := &list.Items[i]
		keys = append(keys, types.NamespacedName{Namespace: d.Namespace, Name: d.Name})
		if d.DeletionTimestamp == nil {
			in.apply(in.model.setDeployment(d))
		}
	}
	return keys, nil
}

// watch starts following the three buckets of reports. Each channel is closed
// when what the bucket had at the start is known.
func (in *intake) watch(ctx context.Context, group *errgroup.Group) []chan struct{} {
	channels := []chan struct{}{make(chan struct{}), make(chan struct{}), make(chan struct{})}
	group.Go(func() error {
		return in.store.WatchInfos(ctx, kv.Handler[wire.DeviceInfo]{Update: in.takeInfo, Synced: in.onSynced(channels[0])})
	})
	group.Go(func() error {
		return in.store.WatchStates(ctx, kv.Handler[wire.DeviceState]{Update: in.takeState, Synced: in.onSynced(channels[1])})
	})
	group.Go(func() error {
		return in.store.WatchHeartbeats(ctx, kv.Handler[wire.Heartbeat]{Update: in.takeHeartbeat, Synced: in.onSynced(channels[2])})
	})
	return channels
}

func (in *intake) onSynced(first chan struct{}) func() {
	var once sync.Once
	return func() {
		again := true
		once.Do(func() { again = false; close(first) })
		if again {
			select {
			case in.again <- struct{}{}:
			default: // one look will do for all
			}
		}
	}
}

func (in *intake) takeInfo(u kv.Update[wire.DeviceInfo]) {
	in.counters.reports.WithLabelValues(string(wire.BucketInfo)).Inc()
	if !in.usable(u.Device, u.Deleted, u.Err) {
		return
	}
	in.registry.takeInfo(u.Value)
	in.devices.addAfter(in.timing.Coalesce, u.Device)
}

func (in *intake) takeState(u kv.Update[wire.DeviceState]) {
	in.counters.reports.WithLabelValues(string(wire.BucketState)).Inc()
	if !in.usable(u.Device, u.Deleted, u.Err) {
		return
	}
	in.apply(in.model.report(u.Device, &u.Value, u.At))
	in.registry.reported(u.Device, u.Value.Revision)
	if in.isLoaded() && in.writer.accepted(u.Device, u.Value.Revision) {
		in.desired.add(u.Device)
	}
	if in.isLoaded() && in.registry.moved(u.Device, in.toSay(u.Device, u.Value.Revision)) {
		in.patient.add(u.Device)
	}
}

func (in *intake) takeHeartbeat(u kv.Update[wire.Heartbeat]) {
	in.counters.reports.WithLabelValues(string(wire.BucketHeartbeat)).Inc()
	if !in.usable(u.Device, u.Deleted, u.Err) {
		return
	}
	if in.isLoaded() && in.writer.behind(u.Device, u.Value.Revision) {
		in.desired.add(u.Device)
	}
	switch in.registry.heard(u.Device, u.At) {
	case atOnce:
		in.devices.addAfter(in.timing.Coalesce, u.Device)
	case waits:
		in.patient.add(u.Device)
	case never:
	}
}

// linkChanged hears of connections; "" stands for all of them.
func (in *intake) linkChanged(device string) {
	in.rollouts.add(in.model.rolloutsOf(device)...)
	if device != "" {
		in.devices.addAfter(in.timing.Coalesce, device)
		return
	}
	in.lookAtAll()
}

// lookAtAll finds the devices whose status says something else than what is
// known of them by now: who fell silent, who came and went unheard.
func (in *intake) lookAtAll() {
	now := in.now()
	for device, rec := range in.registry.registered() {
		link := in.link(device)
		if v, settled := in.judge(&rec, link, now); settled && v != rec.published || link.known && link.up != rec.connected {
			in.devices.add(device)
		}
	}
}

// usable logs a broken report quietly: a device could write many.
func (in *intake) usable(device string, deleted bool, err error) bool {
	if err != nil {
		in.log.Debug("a report cannot be used", "device", device, "err", err)
	}
	return err == nil && !deleted
}

// load reads what is stored, again and again until it works. It gives false
// when ctx ends.
func (in *intake) load(ctx context.Context) bool {
	for {
		err := in.writer.load(ctx)
		if err == nil {
			return true
		}
		in.log.Warn("what is stored for devices cannot be read yet", "err", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(in.timing.LoadRetry):
		}
	}
}

// catchUp looks at everything once: the API may have changed while no operator
// was there.
func (in *intake) catchUp(deployments []types.NamespacedName) {
	for _, device := range in.writer.known() {
		in.desired.add(device)
	}
	for device, revision := range in.registry.revisions() {
		in.writer.accepted(device, revision)
		in.desired.add(device)
		in.devices.add(device)
	}
	for _, key := range deployments {
		in.deployments.add(reconcile.Request{NamespacedName: key})
		in.summaries.add(key)
	}
	in.log.Info("the picture is complete", "devices", len(in.registry.revisions()), "deployments", len(deployments))
}

// tick does what is due, and what the end of signing, a channel of Signer's, asks for.
func (in *intake) tick(ctx context.Context, signing <-chan struct{}) {
	presence, audit := time.NewTicker(in.timing.PresenceTick), time.NewTicker(in.timing.AuditInterval)
	defer presence.Stop()
	defer audit.Stop()
	defer in.materials.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-signing:
			signing = in.writer.signer.Changed() // first: what changes from here on is seen
			in.desired.add(in.writer.known()...)
			in.log.Info("manifests are signed in another way and written anew", "epoch", in.writer.signer.Epoch())
		case <-presence.C:
			in.lookAtAll()
		case <-audit.C:
			in.audit(ctx)
		case <-in.again:
			in.audit(ctx)
		}
	}
}

func (in *intake) audit(ctx context.Context) {
	differ, err := in.writer.audit(ctx)
	if err != nil {
		in.log.Warn("the store cannot be compared with what it should have", "err", err)
		return
	}
	if len(differ) > 0 {
		in.log.Info("the store differs from what it should have", "devices", len(differ))
	}
	in.desired.add(differ...)
	in.sweep(ctx)
}

// sweep removes the keys of devices that have no object: one that was removed
// past its finalizer leaves them behind, and so does a report that was under way
// when its device was off-boarded. The second look in a row is the one that
// counts, so that a device which was just enrolled is left alone.
func (in *intake) sweep(ctx context.Context) {
	suspects := map[string]bool{}
	for _, device := range slices.Concat(in.writer.known(), in.registry.all()) {
		if in.registry.known(device) || suspects[device] {
			continue
		}
		suspects[device] = true
		if !in.suspects[device] {
			continue
		}
		if err := in.store.ForgetDevice(ctx, device); err != nil {
			in.log.Warn("keys of a device that is no more cannot be removed yet", "device", device, "err", err)
			continue
		}
		in.writer.forget(device)
		in.registry.removeDevice(device)
		in.log.Info("keys of a device that is no more removed", "device", device)
	}
	in.suspects = suspects
}
