package operator

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/rollup"
)

// connectGrace is how long a device that has just connected may take for its
// first heartbeat before it counts as silent.
const connectGrace = 30 * time.Second

// linkState is what NATS says of a device's connection.
type linkState struct {
	known bool // somebody can tell, and has the whole picture
	up    bool
	conn  presence.Connection
}

func (c *core) link(device string) linkState {
	if c.links == nil || !c.links.Complete() {
		return linkState{}
	}
	conn, up := c.links.Connection(device)
	return linkState{known: true, up: up, conn: conn}
}

// judge says whether a device is alive. settled is false where it is too early
// to tell: for a while after the start, when a device that was alive gets the
// time for its next heartbeat, and after a device has connected.
func (c *core) judge(rec *record, link linkState, now time.Time) (v verdict, settled bool) {
	silence := now.Sub(rec.lastSeen)
	switch {
	case !rec.enrolled:
		return notEnrolled, true
	case rec.revoked:
		return revoked, true
	case rec.lastSeen.IsZero() && !link.up:
		return neverSeen, rec.published != alive || now.Sub(c.registry.startedAt()) >= c.timing.HeartbeatTimeout
	case link.known && !link.up:
		return disconnected, true
	case silence < c.timing.HeartbeatTimeout:
		return alive, true
	case link.up && now.Sub(link.conn.Since) < min(connectGrace, c.timing.HeartbeatTimeout):
		return missing, false
	case rec.lastSeen.IsZero():
		return neverSeen, true
	}
	return missing, rec.published != alive || now.Sub(c.registry.startedAt()) >= c.timing.HeartbeatTimeout
}

func (c *core) readyCondition(v verdict, rec *record) metav1.Condition {
	out := metav1.Condition{Type: v1alpha1.ConditionReady, Reason: string(v), Status: metav1.ConditionFalse}
	switch v {
	case alive:
		out.Status, out.Message = metav1.ConditionTrue, "heartbeats arrive"
	case missing:
		out.Message = fmt.Sprintf("no heartbeat since %s, for more than %s", stamp(rec.lastSeen), c.timing.HeartbeatTimeout)
	case neverSeen:
		out.Message = "no heartbeat has arrived yet"
	case disconnected:
		out.Message = "not connected; what it runs goes on, and it catches up when it is back"
	case revoked:
		out.Message = "its registration was revoked: it may not connect until it is enrolled again"
	case notEnrolled:
		out.Message = "it was not enrolled: it may not connect"
	}
	return out
}

// connectedCondition gives false where nobody can tell, at all or for now: then
// what was last known stays.
func connectedCondition(link linkState, before []metav1.Condition) (metav1.Condition, bool) {
	out := metav1.Condition{Type: v1alpha1.ConditionConnected, Status: metav1.ConditionFalse}
	switch {
	case !link.known:
		return out, false
	case link.up:
		out.Status, out.Reason = metav1.ConditionTrue, v1alpha1.ReasonConnected
		out.Message = fmt.Sprintf("from %s since %s", link.conn.Host, stamp(link.conn.Since))
	case meta.FindStatusCondition(before, v1alpha1.ConditionConnected) == nil:
		out.Reason, out.Message = v1alpha1.ReasonNeverConnected, "it has not connected yet"
	default:
		was := meta.FindStatusCondition(before, v1alpha1.ConditionConnected)
		if was.Status == metav1.ConditionFalse {
			return out, false // as it was
		}
		out.Reason = v1alpha1.ReasonDisconnected
		out.Message = "its last connection was " + was.Message
	}
	return out, true
}

// progress is the UpToDate condition of a device: whether it runs what it
// should, and if not, what is in the way.
func (c *core) progress(device string, s standing, accepted uint64) metav1.Condition {
	no := func(reason, message string) metav1.Condition {
		return condition(v1alpha1.ConditionUpToDate, false, reason, message)
	}
	switch {
	case !s.Reported:
		return metav1.Condition{Type: v1alpha1.ConditionUpToDate, Status: metav1.ConditionUnknown,
			Reason: v1alpha1.ReasonNoReport, Message: "it has not reported what it runs"}
	case s.Err != "":
		return no(v1alpha1.ReasonManifestRefused, s.Err)
	case len(s.Failed) > 0:
		return no(v1alpha1.ReasonDeploymentsFailed, failures(s.Failed))
	case accepted < c.writer.revision(device):
		return no(v1alpha1.ReasonManifestPending, "it has not taken its newest desired state yet")
	case len(s.Pending) > 0:
		return no(v1alpha1.ReasonDeploymentsPending, "working on "+some(s.Pending))
	case len(s.waiting) > 0:
		return no(v1alpha1.ReasonWaitingForRollout, "the rollout of "+some(s.waiting)+" has not brought it the newest revision")
	}
	return condition(v1alpha1.ConditionUpToDate, true, v1alpha1.ReasonUpToDate, "it runs what it should")
}

// warningCondition gives false for a device that never had a warning: most have
// none.
func warningCondition(s standing, before []metav1.Condition) (metav1.Condition, bool) {
	switch {
	case !s.Reported:
		return metav1.Condition{}, false // what was last known stays
	case len(s.Warnings) > 0:
		return condition(v1alpha1.ConditionWarning, true, v1alpha1.ReasonAgentWarns, strings.Join(s.Warnings, "; ")), true
	}
	return condition(v1alpha1.ConditionWarning, false, v1alpha1.ReasonNoWarning, "the agent warns of nothing"),
		meta.FindStatusCondition(before, v1alpha1.ConditionWarning) != nil
}

// said is what of a report goes into a device's status beside its deployments'
// aggregates, in a form that can be compared.
func said(conditions []metav1.Condition) string {
	var out strings.Builder
	for _, name := range []string{v1alpha1.ConditionUpToDate, v1alpha1.ConditionWarning} {
		if c := meta.FindStatusCondition(conditions, name); c != nil && (name == v1alpha1.ConditionUpToDate || c.Status == metav1.ConditionTrue) {
			out.WriteString(c.Reason + c.Message)
		}
	}
	return out.String()
}

// toSay is what would be said of a device now.
func (c *core) toSay(device string, accepted uint64) string {
	s := c.model.standing(device)
	now := []metav1.Condition{c.progress(device, s, accepted)}
	if warning, known := warningCondition(s, nil); known {
		now = append(now, warning)
	}
	return said(now)
}

// maxNamed is how many deployments a message names.
const maxNamed = 3

func failures(list []rollup.Failing) string {
	var parts []string
	for _, f := range list[:min(len(list), maxNamed)] {
		parts = append(parts, fmt.Sprintf("%s: %.256s", f.Deployment, f.Message))
	}
	return strings.Join(parts, "; ") + more(len(list))
}

func some(names []string) string {
	return strings.Join(names[:min(len(names), maxNamed)], ", ") + more(len(names))
}

func more(n int) string {
	if n <= maxNamed {
		return ""
	}
	return fmt.Sprintf(" and %d more", n-maxNamed)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
