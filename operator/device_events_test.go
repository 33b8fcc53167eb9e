package operator

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func TestDeviceEvents(t *testing.T) {
	now := metav1.Now()
	d := &v1alpha1.Device{Spec: v1alpha1.DeviceSpec{Enrolled: &now}}
	is := func(name, status, reason, message string) metav1.Condition {
		return metav1.Condition{Type: name, Status: metav1.ConditionStatus(status), Reason: reason, Message: message}
	}
	type list = []metav1.Condition
	up, down := is("Connected", "True", "Connected", "from a"), is("Connected", "False", "Disconnected", "")
	for name, tt := range map[string]struct {
		before, after list
		want          string
	}{
		"new":                  {nil, list{is("Ready", "False", "NeverSeen", ""), is("Connected", "False", "NeverConnected", "")}, "[Enrolled]"},
		"comes":                {list{down}, list{up}, "[Connected]"},
		"goes":                 {list{up}, list{down}, "[Disconnected]"},
		"comes from elsewhere": {list{up}, list{is("Connected", "True", "Connected", "from b")}, "[]"},
		"revoked":              {list{is("Ready", "True", "HeartbeatReceived", "")}, list{is("Ready", "False", "Revoked", "")}, "[Revoked!]"},
		"enrolled again":       {list{is("Ready", "False", "Revoked", "")}, list{is("Ready", "False", "Disconnected", "")}, "[Enrolled]"},
		"falls silent":         {list{is("Ready", "True", "HeartbeatReceived", "")}, list{is("Ready", "False", "HeartbeatMissed", "")}, "[HeartbeatMissed!]"},
		"fails":                {list{is("UpToDate", "True", "UpToDate", "")}, list{is("UpToDate", "False", "DeploymentsFailed", "a: x")}, "[DeploymentsFailed!]"},
		"fails otherwise":      {list{is("UpToDate", "False", "DeploymentsFailed", "a: x")}, list{is("UpToDate", "False", "DeploymentsFailed", "a: y")}, "[DeploymentsFailed!]"},
		"still fails":          {list{is("UpToDate", "False", "DeploymentsFailed", "a: x")}, list{is("UpToDate", "False", "DeploymentsFailed", "a: x")}, "[]"},
		"conflict":             {nil, list{is("IdentityConflict", "True", "MachineIDMismatch", "")}, "[MachineIDMismatch!]"},
	} {
		var got []string
		for _, e := range deviceEvents(d, tt.before, tt.after) {
			got = append(got, e.reason+map[bool]string{true: "!"}[e.warning])
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%s: %v, want %s", name, got, tt.want)
		}
	}
}

func TestEventsAreRare(t *testing.T) {
	l, now := newEventLimits(), time.Unix(1_800_000_000, 0)
	passed, flapping := 0, 0
	for range 1000 { // a link that breaks every second
		now = now.Add(time.Second)
		p, f := l.allow("pi-1", true, now)
		if p {
			passed++
		}
		if f {
			flapping++
		}
	}
	if passed > eventBurst+1000/60+1 || flapping < 1 || flapping > 2 {
		t.Errorf("%d events passed and %d told of flapping", passed, flapping)
	}
	passed = 0
	for i := range 10_000 { // a fleet that comes back at once
		if p, _ := l.allow(fmt.Sprint("device-", i), true, now); p {
			passed++
		}
	}
	if passed > fleetEventBurst {
		t.Errorf("%d events of a fleet at once", passed)
	}
}
