package operator

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func liveDevice(labels map[string]string, owned ...string) *v1alpha1.Device {
	set := map[string]any{}
	for _, key := range owned {
		set["f:"+key] = map[string]any{}
	}
	raw, _ := json.Marshal(map[string]any{"f:metadata": map[string]any{"f:labels": set}})
	return &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: "pi-1", Labels: labels, ManagedFields: []metav1.ManagedFieldsEntry{
		{Manager: "kubectl-label", Operation: metav1.ManagedFieldsOperationUpdate, FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:theirs":{}}}}`)},
		{Manager: v1alpha1.ManagerAgent, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(string(raw))},
	}}}
}

type set = map[string]string

func TestAgentLabels(t *testing.T) {
	many := set{}
	for i := range maxAgentLabels + 1 {
		many[fmt.Sprint("l", i)] = "x"
	}
	for _, tc := range []struct {
		name string
		says set
		live *v1alpha1.Device
		want set
		errs string
	}{
		{"a new device", set{"site": "lyon"}, nil, set{"site": "lyon", "device-id": "pi-1"}, ""},
		{"its own label changes", set{"site": "paris"}, liveDevice(set{"site": "lyon"}, "site"), set{"site": "paris", "device-id": "pi-1"}, ""},
		{"an administrator's label stays", set{"theirs": "a"}, liveDevice(set{"theirs": "b"}), set{"device-id": "pi-1"}, ""},
		{"both agree", set{"theirs": "b"}, liveDevice(set{"theirs": "b"}), set{"theirs": "b", "device-id": "pi-1"}, ""},
		{"no device takes another's id", set{"device-id": "pi-2"}, nil, set{"device-id": "pi-1"}, ""},
		{"what is no label is left out", set{"a b": "c", "ok": "x", "v": "b c"}, nil, set{"ok": "x", "device-id": "pi-1"}, `"a b"`},
		{"too many", many, nil, set{"device-id": "pi-1"}, "the most is 64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := agentLabels("pi-1", tc.says, tc.live)
			if !maps.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
			if (err == nil) != (tc.errs == "") || err != nil && !strings.Contains(err.Error(), tc.errs) {
				t.Errorf("error %v, want %q", err, tc.errs)
			}
		})
	}
}

func TestUpToDate(t *testing.T) {
	live := liveDevice(set{"site": "lyon", "theirs": "b", "device-id": "pi-1"}, "site", "device-id")
	for _, tc := range []struct {
		want set
		is   bool
	}{
		{set{"site": "lyon", "device-id": "pi-1"}, true},
		{set{"site": "paris", "device-id": "pi-1"}, false},
		{set{"device-id": "pi-1"}, false}, // a label that the agent no longer has
		{set{"site": "lyon", "rack": "1", "device-id": "pi-1"}, false},
	} {
		if got := upToDate(tc.want, live); got != tc.is {
			t.Errorf("%v: %v", tc.want, got)
		}
	}
}

// TestDeviceStatusPatchNamesEveryField: a field that is left out of a merge
// patch would keep its old value.
func TestDeviceStatusPatchNamesEveryField(t *testing.T) {
	patch, err := deviceStatusPatch(&v1alpha1.DeviceStatus{})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Status struct {
			Inventory map[string]any `json:"inventory"`
		} `json:"status"`
	}
	if err := json.Unmarshal(patch, &got); err != nil {
		t.Fatal(err)
	}
	full, err := json.Marshal(inventoryOf(&wire.Inventory{
		Hostname: "x", OS: "x", Kernel: "x", Architecture: "x", Model: "x", CPUs: 1, MemoryBytes: 1 << 63, DiskBytes: 1,
		AgentVersion: "x", PodmanVersion: "x", BootID: "x", CgroupsVersion: "x", ContainerEngine: "x",
	}))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(full, &fields); err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		if value, named := got.Status.Inventory[name]; !named || value != nil {
			t.Errorf("an empty status does not clear inventory.%s", name)
		}
	}
	if len(fields) != len(got.Status.Inventory) {
		t.Errorf("%d fields, %d in the patch", len(fields), len(got.Status.Inventory))
	}
}
