// Package desired turns a Deployment into the bytes that its devices get, and
// a device's deployments into its manifest. It is pure: the same input gives
// the same bytes, so that comparing hashes tells whether anything changed.
package desired

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// State is a rendered Deployment. It is the same on all its devices.
type State struct {
	UID        string // of the Deployment
	Generation int64  // by which devices know this score
	Bytes      []byte // a wire.DesiredState
	Hash       string // wire.Hash of Bytes

	// Takes are the keys that it refers to, by wire.SecretObject and
	// wire.ConfigMapObject, in Namespace; wire.AllKeys for an object as it is.
	// With any it is not the same on all devices: see With.
	Takes     map[string]map[string]bool
	Namespace string
	Tag       string // of what it took; see wire.Sealed
}

// With gives the state as one device gets it, with what it takes.
func (s *State) With(sealed *wire.Sealed) (*State, error) {
	var d wire.DesiredState
	if err := json.Unmarshal(s.Bytes, &d); err != nil {
		return nil, fmt.Errorf("decode desired state: %w", err)
	}
	d.Sealed = sealed
	out, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode desired state: %w", err)
	}
	return &State{UID: s.UID, Generation: s.Generation, Bytes: out, Hash: wire.Hash(out), Tag: sealed.Tag}, nil
}

// Render gives what the devices of d get of its present score.
func Render(d *v1alpha1.Deployment) (*State, error) {
	return RenderScore(d, &d.Spec.Score, d.Generation)
}

// RenderScore gives what the devices of d get of a score that it has, or had,
// under the generation by which they know it. It refuses what the agent would: the
// API server's rules keep nearly all of it out, but not what needs a look at
// two places at once, such as a host port that two services want.
func RenderScore(d *v1alpha1.Deployment, score *v1alpha1.Score, generation int64) (*State, error) {
	if err := wire.ValidateDeploymentName(d.Name); err != nil {
		return nil, err
	}
	data, err := json.Marshal(restarted(score))
	if err != nil {
		return nil, fmt.Errorf("encode score data: %w", err)
	}
	takes := map[string]map[string]bool{}
	if score.Type == wire.ScorePodmanV0 {
		podman, err := wire.DecodePodmanV0(data)
		if err != nil {
			return nil, err
		}
		for i := range podman.Services {
			podman.Services[i].References(takes)
		}
	}
	out, err := json.Marshal(wire.DesiredState{
		SchemaVersion: wire.SchemaVersion, Deployment: d.Name, Namespace: d.Namespace,
		UID: string(d.UID), Generation: generation,
		Score: wire.Score{Type: score.Type, Data: data},
	})
	if err != nil {
		return nil, fmt.Errorf("encode desired state: %w", err)
	}
	if most := int(wire.BucketDesired.MaxValueBytes()); len(out) > most {
		return nil, fmt.Errorf("the spec takes %d bytes; the most that a device gets is %d", len(out), most)
	}
	return &State{UID: string(d.UID), Generation: generation, Bytes: out, Hash: wire.Hash(out), Takes: takes, Namespace: d.Namespace}, nil
}

// labelRestarted is on a container that was asked to be made anew, so that it
// differs from the one before.
const labelRestarted = "restarted-at"

// restarted gives the data of a score with its last restart in it, in a way that
// every agent knows.
func restarted(score *v1alpha1.Score) v1alpha1.ScoreData {
	if score.RestartedAt == nil || len(score.Data.Services) == 0 {
		return score.Data
	}
	out := *score.Data.DeepCopy() // the score is the cache's
	for i := range out.Services {
		s := &out.Services[i]
		if s.Labels == nil {
			s.Labels = map[string]v1alpha1.ContainerLabel{}
		}
		s.Labels[labelRestarted] = v1alpha1.ContainerLabel(score.RestartedAt.UTC().Format(time.RFC3339))
	}
	return out
}

// Manifest lists a device's deployments; hashes are by deployment name.
func Manifest(device string, revision uint64, hashes map[string]string) wire.Manifest {
	m := wire.Manifest{SchemaVersion: wire.SchemaVersion, Device: device, Revision: revision, Deployments: []wire.ManifestEntry{}}
	for _, name := range slices.Sorted(maps.Keys(hashes)) {
		m.Deployments = append(m.Deployments, wire.ManifestEntry{Name: name, SHA256: hashes[name]})
	}
	return m
}

// NextRevision is greater than every revision known, and than those that were
// forgotten with a wiped store as long as the clock is not set back: it counts
// milliseconds where it can.
func NextRevision(known uint64, now time.Time) uint64 {
	return max(known+1, uint64(max(now.UnixMilli(), 0)))
}

// maxAhead is how far ahead of now a device may say its revision is.
const maxAhead = 24 * time.Hour

// PlausibleRevision says whether a revision that a device reports can have
// been ours. A device that reports another only harms itself, but a revision
// near the end of the range would leave nothing greater to write.
func PlausibleRevision(revision uint64, now time.Time) bool {
	return revision <= uint64(max(now.Add(maxAhead).UnixMilli(), 0))
}
