package cli

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func TestInTheWay(t *testing.T) {
	is := func(name string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
		return metav1.Condition{Type: name, Status: status, Reason: reason, Message: message}
	}
	ready := is("Ready", "True", "HeartbeatReceived", "heartbeats arrive")
	failed := is("UpToDate", "False", "DeploymentsFailed", "web: no such image")
	for want, conditions := range map[string][]metav1.Condition{
		"":                   {ready, is("UpToDate", "True", "UpToDate", "it runs what it should"), is("IdentityConflict", "False", "", "fine")},
		"web: no such image": {failed, ready},
		"not connected (from 192.0.2.7 until noon)": {failed, is("Ready", "False", "Disconnected", "not connected"), is("Connected", "False", "Disconnected", "from 192.0.2.7 until noon")},
		"another machine": {failed, ready, is("IdentityConflict", "True", "MachineIDMismatch", "another machine")},
	} {
		if got := inTheWay(&v1alpha1.Device{Status: v1alpha1.DeviceStatus{Conditions: conditions}}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	now := metav1.Now()
	if got := inTheWay(&v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}}); got != "it is being off-boarded" {
		t.Errorf("a device that is deleted: %q", got)
	}
}
