package wire

import (
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"fmt"
)

// Sealed is what a deployment takes from Secrets and ConfigMaps, for one
// device: a Material that only the device's sealing key opens (HPKE, RFC 9180,
// base mode; X25519, HKDF-SHA256, ChaCha20-Poly1305). Who made it is vouched
// for by the manifest's hash of the DesiredState around it.
type Sealed struct {
	Recipient string `json:"recipient"` // SealingKeyID
	// Tag changes when the content does. Without the control plane's signing
	// key it says nothing about the content.
	Tag        string `json:"tag"`
	Ciphertext []byte `json:"ciphertext"` // encapsulated key, then ciphertext
	// Missing says why there is no Material, for the device to report.
	Missing string `json:"missing,omitempty"`
}

// Material is the content of a Sealed. Its objects are named by SecretObject
// and ConfigMapObject.
type Material struct {
	Objects map[string]map[string][]byte `json:"objects"` // object → key → value
}

// String hides the values.
func (m Material) String() string { return "[redacted]" }

// GoString hides the values from %#v.
func (m Material) GoString() string { return m.String() }

// SecretObject names a Secret in a Material.
func SecretObject(name string) string { return "secret/" + name }

// ConfigMapObject names a ConfigMap in a Material.
func ConfigMapObject(name string) string { return "configmap/" + name }

// Objects lists what the service takes from elsewhere, with repetitions.
func (s *Service) Objects() []string {
	var out []string
	for _, e := range s.Env {
		if from := e.ValueFrom; from != nil {
			if from.SecretKeyRef != nil {
				out = append(out, SecretObject(from.SecretKeyRef.Name))
			}
			if from.ConfigMapKeyRef != nil {
				out = append(out, ConfigMapObject(from.ConfigMapKeyRef.Name))
			}
		}
	}
	for _, f := range s.Files {
		out = append(out, f.Object())
	}
	if s.RegistryCredentials != "" {
		out = append(out, SecretObject(s.RegistryCredentials))
	}
	return out
}

// AllKeys stands for every key of an object; it is no key itself.
const AllKeys = "*"

// keyOfLogins is the key of a Secret of type kubernetes.io/dockerconfigjson.
const keyOfLogins = ".dockerconfigjson"

// References adds to into what the service takes: object → keys, AllKeys among
// them where it takes the object as it is.
func (s *Service) References(into map[string]map[string]bool) {
	add := func(object string, keys ...string) {
		if into[object] == nil {
			into[object] = map[string]bool{}
		}
		for _, key := range keys {
			into[object][key] = true
		}
	}
	for _, e := range s.Env {
		if from := e.ValueFrom; from != nil {
			if from.SecretKeyRef != nil {
				add(SecretObject(from.SecretKeyRef.Name), from.SecretKeyRef.Key)
			}
			if from.ConfigMapKeyRef != nil {
				add(ConfigMapObject(from.ConfigMapKeyRef.Name), from.ConfigMapKeyRef.Key)
			}
		}
	}
	for _, f := range s.Files {
		if len(f.Keys) == 0 {
			add(f.Object(), AllKeys)
		}
		add(f.Object(), f.Keys...)
	}
	if s.RegistryCredentials != "" {
		add(SecretObject(s.RegistryCredentials), keyOfLogins)
	}
}

// Object names what the files come from.
func (f *File) Object() string {
	if f.Secret != "" {
		return SecretObject(f.Secret)
	}
	return ConfigMapObject(f.ConfigMap)
}

// ErrNotForUs says that something is sealed to another key.
var ErrNotForUs = errors.New("is sealed to another key than this device has")

// SealingKeyID names the public half of a sealing key, in the way of KeyID.
func SealingKeyID(public *ecdh.PublicKey) string { return KeyID(public.Bytes()) }

// SealMaterial seals m for a device and a deployment; it opens for these only.
func SealMaterial(to *ecdh.PublicKey, device, deployment, tag string, m Material) (*Sealed, error) {
	plain, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode material: %w", err)
	}
	key, err := hpke.NewDHKEMPublicKey(to)
	if err != nil {
		return nil, fmt.Errorf("seal material: %w", err)
	}
	out, err := hpke.Seal(key, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), materialInfo(device, deployment), plain)
	if err != nil {
		return nil, fmt.Errorf("seal material: %w", err)
	}
	return &Sealed{Recipient: SealingKeyID(to), Tag: tag, Ciphertext: out}, nil
}

// OpenMaterial is the inverse of SealMaterial.
func (s *Sealed) OpenMaterial(key *ecdh.PrivateKey, device, deployment string) (Material, error) {
	if s.Recipient != SealingKeyID(key.PublicKey()) {
		return Material{}, ErrNotForUs
	}
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return Material{}, fmt.Errorf("open material: %w", err)
	}
	plain, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), materialInfo(device, deployment), s.Ciphertext)
	if err != nil {
		return Material{}, fmt.Errorf("open material: %w", err)
	}
	var m Material
	if err := json.Unmarshal(plain, &m); err != nil {
		return Material{}, errors.New("open material: its content is no JSON") // which must not be quoted
	}
	return m, nil
}

// materialInfo binds what is sealed to its place. Names have no NUL.
func materialInfo(device, deployment string) []byte {
	return []byte("fleet.nationtech.io/material/v1\x00" + device + "\x00" + deployment)
}
