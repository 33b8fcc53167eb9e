package parts

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	"github.com/nationtech/fleetctl/internal/serverapi"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/signing/rotation"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// signingLook is between two looks at a mounted directory of signing keys. The
// kubelet brings a change of the Secret there within about a minute.
const signingLook = 5 * time.Second

// followKeys keeps a signer up with its directory.
func (p *part) followKeys(s *signing.Signer) supervise.Part {
	return supervise.Loop(func(ctx context.Context) error {
		return s.Follow(ctx, signingLook, p.Log.With("component", "signing"))
	})
}

// openSigning finds the keys that commands are signed with. Those in a Secret
// can be rotated from here; those in a directory are somebody else's.
func (d *dashboardPart) openSigning(ctx context.Context) (_ supervise.Part, err error) {
	if d.cfg.SigningSecret == "" {
		if d.signer, err = signing.Load(d.cfg.SigningDir); err != nil {
			return nil, err
		}
		return d.followKeys(d.signer), nil
	}
	config, err := d.restConfig()
	if err != nil {
		return nil, err
	}
	store, err := newSecretStore(config, d.cfg.SigningSecret)
	if err != nil {
		return nil, err
	}
	d.signer, err = signing.New(ctx, store)
	return nil, err
}

func (d *dashboardPart) rotate(context.Context) (supervise.Part, error) {
	d.rotation = rotation.New(rotation.Config{Signer: d.signer, Log: d.Log.With("component", "signing"),
		Fleet: serverapi.FleetKeys{Registry: d.devices, Presence: d.presence}})
	return supervise.Loop(d.rotation.Run), nil
}

// secretStore keeps signing keys in a Secret, which fleetctl server install
// made.
type secretStore struct {
	secrets corev1client.SecretInterface
	name    string
}

// newSecretStore takes NAMESPACE/NAME.
func newSecretStore(config *rest.Config, secret string) (signing.Store, error) {
	namespace, name, ok := strings.Cut(secret, "/")
	if !ok || namespace == "" || name == "" {
		return nil, fmt.Errorf("--signing-secret %q is not NAMESPACE/NAME", secret)
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	return &secretStore{set.CoreV1().Secrets(namespace), name}, nil
}

func (s *secretStore) Read(ctx context.Context) (map[string][]byte, error) {
	secret, err := s.secrets.Get(ctx, s.name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, name := range []string{signing.CurrentFile, signing.SuccessorFile, signing.StateFile} {
		if data, there := secret.Data[name]; there {
			files[name] = data
		}
	}
	if len(files) == 0 {
		return nil, errors.New("the Secret " + s.name + " holds no signing keys")
	}
	return files, nil
}

func (s *secretStore) Write(ctx context.Context, name string, data []byte) error {
	return s.change(ctx, func(secret *corev1.Secret) { secret.Data[name] = data })
}

func (s *secretStore) Remove(ctx context.Context, name string) error {
	return s.change(ctx, func(secret *corev1.Secret) { delete(secret.Data, name) })
}

func (s *secretStore) change(ctx context.Context, change func(*corev1.Secret)) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		secret, err := s.secrets.Get(ctx, s.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		change(secret)
		_, err = s.secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: "fleet-server"})
		return err
	})
}
