package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Manifest lists what a device should run. It is signed (KindManifest), and
// through the hashes it also vouches for each DesiredState, which is not
// signed itself. A deployment that is not listed is removed from the device.
type Manifest struct {
	SchemaVersion int    `json:"schemaVersion"`
	Device        string `json:"device"`
	// Revision grows with every manifest that is written for the device. An
	// agent refuses a revision below the one it holds.
	Revision    uint64          `json:"revision"`
	Deployments []ManifestEntry `json:"deployments"` // sorted by name
}

// ManifestEntry is one deployment in a Manifest.
type ManifestEntry struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // Hash of the DesiredState's bytes, hex
}

// Hash is the SHA-256 of a DesiredState as it is stored, in hex.
func Hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Validate checks that the manifest is for this device and well formed:
// otherwise it is ErrOtherDevice or ErrMalformed, with what is wrong.
func (m *Manifest) Validate(device string) error {
	if m.Device != device {
		return fmt.Errorf("manifest is for device %q, not %q: %w", clip(m.Device, 80), device, ErrOtherDevice)
	}
	if m.Revision == 0 {
		return fmt.Errorf("manifest has no revision: %w", ErrMalformed)
	}
	var errs []error
	seen := map[string]bool{}
	for _, d := range m.Deployments {
		if err := ValidateDeploymentName(d.Name); err != nil {
			errs = append(errs, err)
		}
		if seen[d.Name] {
			errs = append(errs, fmt.Errorf("deployment %q is listed twice", clip(d.Name, 80)))
		}
		seen[d.Name] = true
		if raw, err := hex.DecodeString(d.SHA256); err != nil || len(raw) != sha256.Size {
			errs = append(errs, fmt.Errorf("deployment %q: %q is no SHA-256", clip(d.Name, 80), clip(d.SHA256, 80)))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w", ErrMalformed, errors.Join(errs...))
	}
	return nil
}

// DesiredState is one deployment as it should be on one device.
type DesiredState struct {
	SchemaVersion int    `json:"schemaVersion"`
	Deployment    string `json:"deployment"`
	Namespace     string `json:"namespace"` // of the Deployment object; for people
	UID           string `json:"uid"`       // of the Deployment object
	// Generation is that of the Deployment object when it first had this
	// score: reports name a revision by it.
	Generation int64 `json:"generation"`
	Score      Score `json:"score"`
	// Sealed is there when the score refers to Secrets or ConfigMaps.
	Sealed *Sealed `json:"sealed,omitempty"`
}

// Score says what to run. Data is decoded according to Type by the agent,
// which reports a type that it does not know.
type Score struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}
