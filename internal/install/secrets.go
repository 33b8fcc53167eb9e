package install

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nkeys"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/signing"
)

// Keys of entries in our Secrets, beside "<role>.nk".
const (
	keyFleet      = "fleet.key"
	keyAdminToken = "admin-token"
	keyIssuer     = "issuer.nk"
	keyXKey       = "xkey.nk"
	keySession    = "session.key"
)

// Secrets is the secret half of an installation: the content of each Secret by
// its name. It is made once. Whoever replaces a signing key or a NATS key by
// accident locks devices or parts out, so nothing here ever does.
type Secrets map[string]map[string][]byte

// ErrDamaged says that a Secret of ours cannot be used as it is.
var ErrDamaged = errors.New("the Secret is damaged")

// recipe makes one entry.
type recipe func() ([]byte, error)

// recipes says what has to be in which Secret.
func (o *Options) recipes() map[string]map[string]recipe {
	user := func() ([]byte, error) { return seed(nkeys.CreateUser) }
	nk := func(role string) string { return role + ".nk" }
	all := map[string]map[string]recipe{
		operatorName: {nk(accounts.RoleOperator): user, nk(accounts.RoleBuckets): user, nk(accounts.RoleWatcher): user},
		calloutName: {nk(accounts.RoleCallout): user, nk(accounts.RoleWarden): user,
			keyIssuer: func() ([]byte, error) { return seed(nkeys.CreateAccount) },
			keyXKey:   func() ([]byte, error) { return seed(nkeys.CreateCurveKeys) }},
		dashboardName: {nk(accounts.RoleAPI): user, nk(accounts.RolePresence): user,
			keySession: func() ([]byte, error) { return []byte(hex.EncodeToString(random(32)) + "\n"), nil }},
		signingSecret: {signing.CurrentFile: signing.Generate},
		adminSecret:   {keyAdminToken: func() ([]byte, error) { return []byte(hex.EncodeToString(random(32)) + "\n"), nil }},
	}
	if o.WithZitadel {
		all[zitadelSecret] = zitadelRecipes()
	}
	if o.Passwords {
		all[passwordSecret] = map[string]recipe{keyFleet: func() ([]byte, error) { return random(32), nil }}
	}
	return all
}

// Complete makes what is missing, and touches nothing that is there. A Secret
// of which only a part is there is an error: what is missing was lost, and
// something else in the place of a lost key hides that.
func (o *Options) Complete(have Secrets) (all Secrets, made []string, err error) {
	all = maps.Clone(have)
	if all == nil {
		all = Secrets{}
	}
	recipes := o.recipes()
	for _, name := range slices.Sorted(maps.Keys(recipes)) {
		entries := recipes[name]
		if _, there := all[name]; there { // also one that was emptied
			for key := range entries {
				if len(all[name][key]) == 0 {
					return nil, nil, fmt.Errorf("Secret %s has no %s: %w", name, key, ErrDamaged)
				}
			}
			continue
		}
		all[name] = map[string][]byte{}
		for key, make := range entries {
			if all[name][key], err = make(); err != nil {
				return nil, nil, fmt.Errorf("make %s of Secret %s: %w", key, name, err)
			}
		}
		made = append(made, name)
	}
	if o.WithZitadel {
		all[zitadelSecret] = maps.Clone(all[zitadelSecret])
		if err := o.zitadelSecrets(all[zitadelSecret]); err != nil {
			return nil, nil, err
		}
	}
	if o.WithNATS && len(all[natsTLSSecret]) == 0 {
		if all[natsTLSSecret], err = o.natsCertificate(); err != nil {
			return nil, nil, err
		}
		made = append(made, natsTLSSecret)
	}
	return all, made, nil
}

// Names lists the Secrets that belong to the installation.
func (o *Options) secretNames() []string {
	names := slices.Collect(maps.Keys(o.recipes()))
	if o.WithNATS {
		names = append(names, natsTLSSecret)
	}
	slices.Sort(names)
	return names
}

// PublicKeys are the halves that NATS servers are configured with.
func (s Secrets) PublicKeys() (accounts.Keys, accounts.CalloutKeys, error) {
	keys := accounts.Keys{}
	for secret, roles := range map[string][]string{
		operatorName:  {accounts.RoleOperator, accounts.RoleBuckets, accounts.RoleWatcher},
		calloutName:   {accounts.RoleCallout, accounts.RoleWarden},
		dashboardName: {accounts.RoleAPI, accounts.RolePresence},
	} {
		for _, role := range roles {
			public, err := publicOf(s[secret][role+".nk"])
			if err != nil {
				return nil, accounts.CalloutKeys{}, fmt.Errorf("Secret %s, %s.nk: %w", secret, role, err)
			}
			keys[role] = public
		}
	}
	issuer, err := publicOf(s[calloutName][keyIssuer])
	if err != nil {
		return nil, accounts.CalloutKeys{}, fmt.Errorf("Secret %s, %s: %w", calloutName, keyIssuer, err)
	}
	xkey, err := nkeys.FromCurveSeed(s[calloutName][keyXKey])
	if err != nil {
		return nil, accounts.CalloutKeys{}, fmt.Errorf("Secret %s, %s: %w", calloutName, keyXKey, err)
	}
	public, err := xkey.PublicKey()
	return keys, accounts.CalloutKeys{Issuer: issuer, XKey: public}, err
}

func publicOf(seed []byte) (string, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", err
	}
	return pair.PublicKey()
}

func seed(create func() (nkeys.KeyPair, error)) ([]byte, error) {
	pair, err := create()
	if err != nil {
		return nil, err
	}
	return pair.Seed()
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

// object is the Secret as it is applied.
func (o *Options) secret(name string, data map[string][]byte) *corev1.Secret {
	s := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: o.objectMeta(name, ""),
		Type:       corev1.SecretTypeOpaque,
		Data:       data,
	}
	if name == natsTLSSecret {
		s.Type = corev1.SecretTypeTLS
	}
	return s
}
