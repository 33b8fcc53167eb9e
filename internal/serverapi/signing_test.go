package serverapi_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// says has the operator write what a device says that it trusts.
func (c *control) says(t *testing.T, device string, keys ...string) {
	t.Helper()
	d := &v1alpha1.Device{}
	if err := c.kube.Get(timeout(t), client.ObjectKey{Name: device}, d); err != nil {
		t.Fatal(err)
	}
	d.Status.SigningKeys = keys
	if err := c.kube.Status().Update(timeout(t), d); err != nil {
		t.Fatal(err)
	}
}

func (c *control) awaitKey(t *testing.T, good func(api.SigningKey) bool) {
	t.Helper()
	ctx := timeout(t)
	for {
		k, err := c.SigningKey(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if good(k) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestRotateSigningKey(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	operator, viewer := c.as(t, "operator", role.Operator), c.as(t, "viewer", role.Viewer)
	before := must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t).SigningKeys
	if len(before.Keys) != 1 {
		t.Fatalf("enrolled with %v", before.IDs())
	}
	for name, call := range map[string]func(*apiclient.Client) (api.SigningKey, error){
		"begin":  func(c *apiclient.Client) (api.SigningKey, error) { return c.RotateSigningKey(ctx) },
		"finish": func(c *apiclient.Client) (api.SigningKey, error) { return c.FinishRotation(ctx, false) },
		"force":  func(c *apiclient.Client) (api.SigningKey, error) { return c.FinishRotation(ctx, true) },
		"cancel": func(c *apiclient.Client) (api.SigningKey, error) { return c.CancelRotation(ctx) },
	} {
		if _, err := call(operator); apiclient.Code(err) != api.CodeForbidden {
			t.Errorf("%s by an operator: %v", name, err)
		}
		if _, err := call(c.Client); name != "begin" && apiclient.Code(err) != api.CodeRotation {
			t.Errorf("%s without a rotation: %v", name, err)
		}
		if name == "begin" {
			must(c.CancelRotation(ctx))(t)
		}
	}

	k := must(c.RotateSigningKey(ctx))(t)
	seen := must(viewer.SigningKey(ctx))(t)
	if seen.Phase != api.SigningAnnounced || len(seen.Keys) != 2 || seen.Devices != 1 || seen.Began == nil ||
		!slices.Equal(seen.Lacking, []api.LackingDevice{{DeviceID: "pi-1", Silent: true}}) {
		t.Errorf("a viewer sees %+v", seen)
	}
	// Who is enrolled now begins with both.
	if got := must(c.Enrol(ctx, "pi-2", api.EnrolmentRequest{MachineID: machineB}))(t).SigningKeys; !slices.Equal(got.IDs(), []string{k.Keys[0].ID, k.Keys[1].ID}) || got.Revision != k.Revision {
		t.Errorf("enrolled with %v of revision %d", got.IDs(), got.Revision)
	}
	c.says(t, "pi-1", k.Keys[0].ID)
	c.says(t, "pi-2", k.Keys[0].ID, k.Keys[1].ID)
	c.awaitKey(t, func(k api.SigningKey) bool { return k.Keys[0].Devices == 2 && k.Keys[1].Devices == 1 })
	if _, err := c.FinishRotation(ctx, false); apiclient.Code(err) != api.CodeKeyLacking || !strings.Contains(err.Error(), ": pi-1") {
		t.Errorf("finished though a device lacks the key: %v", err)
	}
	// A device that was shut out holds nobody up.
	must(c.Revoke(ctx, "pi-1"))(t)
	after := must(c.FinishRotation(ctx, false))(t)
	if after.Phase != api.SigningIdle || len(after.Keys) != 1 || after.Keys[0].ID != k.Keys[1].ID {
		t.Errorf("%+v", after)
	}
	if !strings.Contains(c.audit.String(), "finish rotation of signing key") {
		t.Error("not on record")
	}
}
