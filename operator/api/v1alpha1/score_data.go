package v1alpha1

import (
	"encoding/json"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// ScoreData is the data of a Score: of PodmanV0 the services, of any other
// variant whatever it holds.
type ScoreData struct {
	// services are the containers of PodmanV0.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Services []Service `json:"services,omitempty"`

	// Other are the fields that this package does not know, as they were
	// received. They are marshalled beside the others.
	Other map[string]apiextensionsv1.JSON `json:"-"`
}

// knownScoreData has ScoreData's fields without its methods.
type knownScoreData ScoreData

// MarshalJSON writes the known and the other fields as one object. The order
// of the keys depends only on the content.
func (d ScoreData) MarshalJSON() ([]byte, error) {
	if len(d.Other) == 0 {
		return json.Marshal(knownScoreData(d))
	}
	fields := make(map[string]json.RawMessage, len(d.Other)+1)
	for key, value := range d.Other {
		fields[key] = value.Raw
	}
	if len(d.Services) > 0 {
		services, err := json.Marshal(d.Services)
		if err != nil {
			return nil, err
		}
		fields["services"] = services
	}
	return json.Marshal(fields)
}

// UnmarshalJSON keeps every field.
func (d *ScoreData) UnmarshalJSON(data []byte) error {
	var fields map[string]apiextensionsv1.JSON
	if err := json.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("decode score data: %w", err)
	}
	if err := json.Unmarshal(data, (*knownScoreData)(d)); err != nil {
		return fmt.Errorf("decode score data: %w", err)
	}
	delete(fields, "services")
	d.Other = nil
	if len(fields) > 0 {
		d.Other = fields
	}
	return nil
}
