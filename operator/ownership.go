package operator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Who set a label is kept where the API server keeps it, in managedFields: the
// agent's labels are applied under a field manager of their own. A label that
// anybody else set is theirs, and the agent's value gives way.

// maxAgentLabels bounds what one device may put on its object.
const maxAgentLabels = 64

// agentLabels gives the labels that the agent's field manager applies to a
// Device: what the device says, without what others have set, and device-id.
// live is the object in the API, nil when there is none. The error names the
// labels that are no labels; the others are given nevertheless.
func agentLabels(device string, says map[string]string, live *v1alpha1.Device) (map[string]string, error) {
	owned := map[string]bool{}
	var have map[string]string
	if live != nil {
		owned, have = agentOwned(live.ManagedFields), live.Labels
	}
	out := map[string]string{}
	var errs []error
	if len(says) > maxAgentLabels {
		says, errs = nil, append(errs, fmt.Errorf("%d labels; the most is %d", len(says), maxAgentLabels))
	}
	for key, value := range says {
		if err := checkLabel(key, value); err != nil {
			errs = append(errs, err)
			continue
		}
		if current, set := have[key]; set && !owned[key] && current != value {
			continue
		}
		out[key] = value
	}
	out[v1alpha1.LabelDeviceID] = device
	return out, errors.Join(errs...)
}

// upToDate says whether the API has just these labels of the agent's.
func upToDate(want map[string]string, live *v1alpha1.Device) bool {
	owned := agentOwned(live.ManagedFields)
	have := map[string]string{}
	for key := range owned {
		have[key] = live.Labels[key]
	}
	return maps.Equal(want, have)
}

// agentOwned are the labels that the agent's field manager owns.
func agentOwned(fields []metav1.ManagedFieldsEntry) map[string]bool {
	owned := map[string]bool{}
	for _, f := range fields {
		if f.Manager != v1alpha1.ManagerAgent || f.Operation != metav1.ManagedFieldsOperationApply || f.Subresource != "" || f.FieldsV1 == nil {
			continue
		}
		var set struct {
			Metadata struct {
				Labels map[string]json.RawMessage `json:"f:labels"`
			} `json:"f:metadata"`
		}
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &set) != nil {
			continue
		}
		for key := range set.Metadata.Labels {
			if name, ok := strings.CutPrefix(key, "f:"); ok {
				owned[name] = true
			}
		}
	}
	return owned
}

func checkLabel(key, value string) error {
	problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...)
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("label %.80q=%.80q: %s", key, value, strings.Join(problems, "; "))
}

// withoutBookkeeping keeps of managedFields, which are half of an object's size,
// what is asked about here.
func withoutBookkeeping(o any) (any, error) {
	if object, err := meta.Accessor(o); err == nil {
		var kept []metav1.ManagedFieldsEntry
		for _, f := range object.GetManagedFields() {
			if f.Manager == v1alpha1.ManagerAgent {
				kept = append(kept, f)
			}
		}
		object.SetManagedFields(kept)
	}
	return o, nil
}
