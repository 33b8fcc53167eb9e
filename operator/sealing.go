package operator

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/desired"
)

// seal puts what a device's deployments take from Secrets and ConfigMaps into
// its desired states, sealed to the device's key. What is missing is said in
// the same place: the device reports it, and keeps what it runs.
func (r desiredReconciler) seal(ctx context.Context, device string, w want) error {
	use := map[objectKey]bool{}
	defer func() { r.materials.release(device, use) }()
	var public *ecdh.PublicKey
	var noKey error
	for name, s := range w.states {
		if len(s.Takes) == 0 {
			continue
		}
		if public == nil && noKey == nil {
			public, noKey = r.sealingKey(ctx, device)
		}
		m := wire.Material{Objects: map[string]map[string][]byte{}}
		var missing string
		for _, o := range slices.Sorted(maps.Keys(s.Takes)) {
			key := objectKey{s.Namespace, o}
			use[key] = true
			data, err := r.materials.get(ctx, key, device)
			if err != nil {
				return err
			}
			if data == nil {
				missing = fmt.Sprintf("there is no %s in namespace %s", o, s.Namespace)
				continue
			}
			m.Objects[o] = taken(data, s.Takes[o])
		}
		if noKey != nil {
			missing = noKey.Error()
		}
		sealed, err := r.sealed(device, name, s, public, m, missing)
		if err != nil {
			return fmt.Errorf("seal deployment %s for device %s: %w", name, device, err)
		}
		w.states[name] = sealed
	}
	return nil
}

// taken are the keys that are taken of an object. One that is not there is left
// out: the device says which it misses.
func taken(data map[string][]byte, keys map[string]bool) map[string][]byte {
	if keys[wire.AllKeys] {
		return data
	}
	out := make(map[string][]byte, len(keys))
	for key := range keys {
		if value, there := data[key]; there {
			out[key] = value
		}
	}
	return out
}

// sealed gives the state as the device gets it. One that is stored already is
// given without its bytes: sealing twice gives two texts of one content.
func (r desiredReconciler) sealed(device, name string, s *desired.State, to *ecdh.PublicKey, m wire.Material, missing string) (*desired.State, error) {
	plain, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode material: %w", err)
	}
	recipient := ""
	if to != nil {
		recipient = wire.SealingKeyID(to)
	}
	tag, err := r.tag(device, recipient, s.Hash, missing, plain)
	if err != nil {
		return nil, err
	}
	if stored, ok := r.writer.sealedAs(device, name, tag); ok {
		return &desired.State{UID: s.UID, Generation: s.Generation, Hash: stored, Tag: tag}, nil
	}
	content := &wire.Sealed{Tag: tag, Missing: missing}
	if missing == "" {
		if content, err = wire.SealMaterial(to, device, name, tag, m); err != nil {
			return nil, err
		}
	}
	out, err := s.With(content)
	if err == nil && len(out.Bytes) > int(wire.BucketDesired.MaxValueBytes()) {
		content = &wire.Sealed{Tag: tag, Missing: fmt.Sprintf("with its secrets and configuration it takes %d bytes; the most that a device gets is %d",
			len(out.Bytes), wire.BucketDesired.MaxValueBytes())}
		out, err = s.With(content)
	}
	return out, err
}

// tag names content for those who have the control plane's key: a signature by
// Ed25519 is the same each time, nobody else can make it, and only a digest of
// it is shown. So no guess at a secret can be checked against it.
func (r desiredReconciler) tag(device, recipient, hash, missing string, plain []byte) (string, error) {
	sum := sha256.Sum256(plain)
	signed, err := r.writer.signer.Seal(wire.KindMaterialTag, []string{device, recipient, hash, missing, hex.EncodeToString(sum[:])})
	if err != nil {
		return "", err
	}
	tag := sha256.Sum256(signed)
	return hex.EncodeToString(tag[:16]), nil
}

func (r desiredReconciler) sealingKey(ctx context.Context, device string) (*ecdh.PublicKey, error) {
	d := &v1alpha1.Device{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: device}, d); err != nil {
		return nil, fmt.Errorf("device %s is not in the API", device)
	}
	if d.Spec.SealingKey == "" {
		return nil, fmt.Errorf("device %s has no sealing key, without which it gets no secrets: enroll it again", device)
	}
	raw, err := base64.StdEncoding.DecodeString(d.Spec.SealingKey)
	if err == nil {
		var key *ecdh.PublicKey
		if key, err = ecdh.X25519().NewPublicKey(raw); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("the sealing key of device %s is no X25519 public key: %w", device, err)
}
