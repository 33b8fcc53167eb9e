package v1alpha1

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
)

// Fingerprint is equal for two scores if they say the same, whatever the order
// of their fields: SHA-256 in hex.
func (s *Score) Fingerprint() (string, error) {
	data, err := json.Marshal(s.Data)
	if err != nil {
		return "", fmt.Errorf("encode score data: %w", err)
	}
	var any any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&any); err != nil {
		return "", fmt.Errorf("decode score data: %w", err)
	}
	if data, err = json.Marshal(any); err != nil {
		return "", fmt.Errorf("encode score data: %w", err)
	}
	data = append([]byte(s.Type+"\n"), data...)
	if s.RestartedAt != nil {
		data = append(data, "\n"+s.RestartedAt.UTC().Format(time.RFC3339)...)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// ForRevision gives the score as a DeploymentRevision keeps it.
func (s *Score) ForRevision() (RevisionScore, error) {
	data, err := json.Marshal(s.Data)
	if err != nil {
		return RevisionScore{}, fmt.Errorf("encode score data: %w", err)
	}
	return RevisionScore{Type: s.Type, Data: runtime.RawExtension{Raw: data}, RestartedAt: s.RestartedAt}, nil
}

// Score gives what a Deployment's spec has to say to be this revision.
func (s *RevisionScore) Score() (Score, error) {
	out := Score{Type: s.Type, RestartedAt: s.RestartedAt}
	if err := json.Unmarshal(s.Data.Raw, &out.Data); err != nil {
		return out, fmt.Errorf("score of a revision: %w", err)
	}
	return out, nil
}
