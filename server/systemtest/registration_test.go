package systemtest

import (
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// testRegistrationIsGuarded: who operates a fleet labels and deletes Devices,
// but lets nobody in.
func testRegistrationIsGuarded(t *testing.T, p *process) {
	as := func(role string) kube.Client {
		config := rest.CopyConfig(p.admin())
		config.Impersonate = rest.ImpersonationConfig{UserName: "fleet:somebody", Groups: []string{"fleet:" + role}}
		scheme := runtime.NewScheme()
		if err := v1alpha1.AddToScheme(scheme); err != nil {
			t.Fatal(err)
		}
		c, err := kube.New(config, kube.Options{Scheme: scheme})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	admin, operator := as("fleet-admin"), as("fleet-operator")
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: "pi-guarded"}, Spec: v1alpha1.DeviceSpec{MachineID: "a", Revoked: &metav1.Time{Time: time.Now()}}}
	if err := admin.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	patch := func(c kube.Client, merge string) error {
		return c.Patch(t.Context(), &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: d.Name}}, kube.RawPatch("application/merge-patch+json", []byte(merge)))
	}
	if err := patch(operator, `{"metadata":{"labels":{"site":"lyon"}}}`); err != nil {
		t.Errorf("an operator labels a device: %v", err)
	}
	for _, merge := range []string{`{"spec":{"revoked":null}}`, `{"spec":{"machineId":"b"}}`, `{"spec":null}`} {
		if err := patch(operator, merge); !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
			t.Errorf("an operator patched %s: %v", merge, err)
		}
	}
	if err := patch(admin, `{"spec":{"revoked":null}}`); err != nil {
		t.Errorf("an administrator lets a device in: %v", err)
	}
	if err := operator.Delete(t.Context(), d); err != nil {
		t.Errorf("an operator off-boards a device: %v", err)
	}
}
