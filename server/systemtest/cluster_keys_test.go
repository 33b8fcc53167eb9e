package systemtest

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/wire"
)

func (c *cluster) secrets() corev1client.SecretInterface {
	c.t.Helper()
	set, err := kubernetes.NewForConfig(c.restConfig())
	if err != nil {
		c.t.Fatal(err)
	}
	return set.CoreV1().Secrets(leaseSpace)
}

// keepSigningKeys puts the keys that operators have mounted into their Secret.
func (c *cluster) keepSigningKeys() {
	c.t.Helper()
	key, err := os.ReadFile(c.path("signing", signing.CurrentFile))
	if err != nil {
		c.t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: signingSecret}, Data: map[string][]byte{signing.CurrentFile: key}}
	if _, err := c.secrets().Create(c.t.Context(), secret, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// mount brings what the Secret has to where operators read it, as a kubelet does.
func (c *cluster) mount() {
	c.t.Helper()
	secret, err := c.secrets().Get(c.t.Context(), signingSecret, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, name := range []string{signing.SuccessorFile, signing.StateFile, signing.CurrentFile} {
		if data, there := secret.Data[name]; there {
			c.write(data, "signing", name)
		} else if err := os.Remove(c.path("signing", name)); err != nil && !os.IsNotExist(err) {
			c.t.Fatal(err)
		}
	}
}

// rotateSigningKey replaces the key in the Secret: the API announces the
// successor, the operators sign what it says, and a device finds its way.
func (c *cluster) rotateSigningKey(t *testing.T) {
	t.Helper()
	server := c.client()
	d := enrol(t, server, "rotated")
	d.connect()
	pinned := d.e.SigningKeys
	follow := func(what string, want []string) {
		t.Helper()
		c.mount()
		eventually(t, what, func(context.Context) (bool, error) {
			reply, err := d.nc.Request(wire.BucketDesired.DirectGetSubject(wire.ManifestKey(d.ID)), nil, 2*time.Second)
			if err != nil || reply.Header.Get("Status") != "" {
				return false, nil
			}
			for _, set := range wire.AttachedKeys(reply.Data) {
				if next, err := pinned.Follow(set); err == nil {
					pinned = next
				}
			}
			err = wire.Open(wire.KindManifest, reply.Data, pinned.Keys, &wire.Manifest{})
			return err == nil && slices.Equal(pinned.IDs(), want), nil
		})
	}
	k, err := server.RotateSigningKey(t.Context())
	if err != nil || k.Phase != api.SigningAnnounced || len(k.Keys) != 2 {
		t.Fatalf("%+v, %v", k, err)
	}
	follow("the announcement", []string{k.Keys[0].ID, k.Keys[1].ID})
	// The device does not report what it trusts.
	if k, err = server.FinishRotation(t.Context(), true); err != nil || len(k.Keys) != 1 {
		t.Fatalf("%+v, %v", k, err)
	}
	follow("the end", []string{k.Keys[0].ID})
	secret, err := c.secrets().Get(t.Context(), signingSecret, metav1.GetOptions{})
	if err != nil || len(secret.Data[signing.SuccessorFile]) != 0 {
		t.Errorf("the Secret after it: %v, %v", len(secret.Data), err)
	}
}
