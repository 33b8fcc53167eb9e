package cloudinit

import (
	"bytes"
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/hint"
)

// merge lays a person's cloud-config over ours: maps are merged key by key,
// lists are joined (ours first), anything else is replaced.
func merge(ours, theirs []byte) ([]byte, error) {
	if !bytes.HasPrefix(theirs, []byte("#cloud-config")) {
		return nil, hint.New("the user-data is not a cloud-config document", `its first line must be "#cloud-config"`)
	}
	var base, over map[string]any
	if err := yaml.Unmarshal(ours, &base); err != nil {
		return nil, fmt.Errorf("decode our own user-data: %w", err)
	}
	if err := yaml.UnmarshalStrict(theirs, &over); err != nil {
		return nil, hint.Wrap(fmt.Errorf("decode the user-data: %w", err), "check it with: cloud-init schema --config-file FILE")
	}
	merged, err := yaml.Marshal(mergeMaps(base, over))
	if err != nil {
		return nil, fmt.Errorf("encode merged user-data: %w", err)
	}
	return merged, nil
}

func mergeMaps(base, over map[string]any) map[string]any {
	for key, value := range over {
		switch value := value.(type) {
		case map[string]any:
			if old, ok := base[key].(map[string]any); ok {
				base[key] = mergeMaps(old, value)
				continue
			}
		case []any:
			if old, ok := base[key].([]any); ok {
				base[key] = append(old, value...)
				continue
			}
		}
		base[key] = value
	}
	return base
}
