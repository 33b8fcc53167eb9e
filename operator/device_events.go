package operator

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// deviceEvent is what a person may want to be told of a device.
type deviceEvent struct {
	warning bool
	reason  string
	action  string
	note    string
}

// deviceEvents follow from what changed in a status.
func deviceEvents(d *v1alpha1.Device, before, after []metav1.Condition) []deviceEvent {
	var out []deviceEvent
	changed := func(name string) (was, is *metav1.Condition) {
		was, is = meta.FindStatusCondition(before, name), meta.FindStatusCondition(after, name)
		if is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason {
			return was, nil
		}
		return was, is
	}
	if was, is := changed(v1alpha1.ConditionReady); is != nil {
		entering := was == nil || was.Reason == v1alpha1.ReasonRevoked || was.Reason == v1alpha1.ReasonNotEnrolled
		switch {
		case is.Reason == v1alpha1.ReasonRevoked:
			out = append(out, deviceEvent{true, is.Reason, "Revoke", is.Message})
		case entering && d.Spec.Enrolled != nil:
			out = append(out, deviceEvent{false, v1alpha1.EventEnrolled, "Enroll", "it may connect"})
		case is.Reason == v1alpha1.ReasonHeartbeatMissed:
			out = append(out, deviceEvent{true, is.Reason, "Watch", is.Message})
		}
	}
	if was, is := changed(v1alpha1.ConditionConnected); is != nil {
		switch {
		case is.Status == metav1.ConditionTrue:
			out = append(out, deviceEvent{false, is.Reason, eventLink, is.Message})
		case was != nil:
			out = append(out, deviceEvent{false, is.Reason, eventLink, is.Message})
		}
	}
	was, is := meta.FindStatusCondition(before, v1alpha1.ConditionUpToDate), meta.FindStatusCondition(after, v1alpha1.ConditionUpToDate)
	if is != nil && (is.Reason == v1alpha1.ReasonDeploymentsFailed || is.Reason == v1alpha1.ReasonManifestRefused) && (was == nil || was.Message != is.Message) {
		out = append(out, deviceEvent{true, is.Reason, "Deploy", is.Message})
	}
	if _, is := changed(v1alpha1.ConditionWarning); is != nil && is.Status == metav1.ConditionTrue {
		out = append(out, deviceEvent{true, is.Reason, "Watch", is.Message})
	}
	if _, is := changed(v1alpha1.ConditionIdentityConflict); is != nil && is.Status == metav1.ConditionTrue {
		out = append(out, deviceEvent{true, is.Reason, "Register", is.Message})
	}
	return out
}

// eventLink is the action of events about connections.
const eventLink = "Connect"

// announceDevice tells of what changed, as often as is good for the reader and
// the API: a device that comes and goes all the time is told of once.
func (c *core) announceDevice(live *v1alpha1.Device, status *v1alpha1.DeviceStatus) {
	for _, e := range deviceEvents(live, live.Status.Conditions, status.Conditions) {
		pass, flapping := c.events.allow(live.Name, e.action == eventLink, c.now())
		if flapping {
			e = deviceEvent{true, v1alpha1.EventFlapping, eventLink, "it connects and disconnects again and again; further ones are not told of for a while"}
		}
		if !pass && !flapping {
			continue
		}
		kind := corev1.EventTypeNormal
		if e.warning {
			kind = corev1.EventTypeWarning
		}
		c.recorder.Eventf(live, nil, kind, e.reason, e.action, "%.1000s", e.note)
	}
}

const (
	eventBurst      = 6 // of an object
	eventEvery      = time.Minute
	fleetEventBurst = 200
	// fleetEventRate is for the whole fleet, a second, in the long run: nobody
	// reads more, and each is a write as dear as that of a status.
	fleetEventRate = 2
	flappingEvery  = 10 * time.Minute
)

// eventLimits keeps events rare.
type eventLimits struct {
	fleet *rate.Limiter

	mu      sync.Mutex
	objects map[string]*eventLimit // by device, or namespace/deployment
}

type eventLimit struct {
	bucket   *rate.Limiter
	flapping time.Time // when it was told that it flaps
}

func newEventLimits() *eventLimits {
	return &eventLimits{fleet: rate.NewLimiter(fleetEventRate, fleetEventBurst), objects: map[string]*eventLimit{}}
}

// allow says whether an event may pass, and whether it is the one that stands
// for those that do not.
func (l *eventLimits) allow(object string, link bool, now time.Time) (pass, flapping bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.objects[object]
	if d == nil {
		d = &eventLimit{bucket: rate.NewLimiter(rate.Every(eventEvery), eventBurst)}
		l.objects[object] = d
	}
	if !d.bucket.AllowN(now, 1) {
		flapping = link && now.Sub(d.flapping) >= flappingEvery && l.fleet.AllowN(now, 1)
		if flapping {
			d.flapping = now
		}
		return false, flapping
	}
	return l.fleet.AllowN(now, 1), false
}

// forget drops an object that is no more.
func (l *eventLimits) forget(object string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.objects, object)
}
