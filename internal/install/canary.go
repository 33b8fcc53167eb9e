package install

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const (
	canaryTimeout = time.Minute // three programs have to hear of a new device
	canaryPrefix  = "smoke-test-"
	cleanTimeout  = 20 * time.Second
	connectEvery  = 2 * time.Second
)

// Canary is a device that is made for the test, lives through what every device
// does, and is removed again: it gets an account and a token at the issuer, is
// kept out by the callout until it is registered through the HTTPS API and let in
// then, writes its own key, and the API reads that.
type Canary struct {
	API *apiclient.Client // as an administrator
	// Devices makes accounts at the issuer; nil: it logs in with the password
	// that its registration gives it.
	Devices *provision.Devices
	// Forget removes what the control plane has of a device.
	Forget func(ctx context.Context, device string) error
}

// canary is the check. What was made for it is removed whatever it found.
func (s *Smoke) canary(ctx context.Context) (err error) {
	if s.Canary == nil {
		return s.notTested("nobody is signed in who may make accounts at the issuer")
	}
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails (crypto/rand)
	device := canaryPrefix + hex.EncodeToString(random[:4])
	defer func() {
		if !errors.Is(err, errNotTested) { // else nothing was made
			err = errors.Join(err, s.Canary.remove(context.WithoutCancel(ctx), device))
		}
	}()

	var login nats.Option
	if s.Canary.Devices != nil {
		if login, err = s.canaryToken(ctx, device); err != nil {
			return err
		}
		if err := s.keptOut(ctx, login); err != nil {
			return fmt.Errorf("connect as a device that nobody registered: %w", err)
		}
	}
	enrolment, err := s.Canary.API.Enrol(ctx, device, api.EnrolmentRequest{MachineID: hex.EncodeToString(random)})
	if err != nil {
		return hint.Wrap(fmt.Errorf("register a device: %w", err), s.kubectl("logs deployment/fleet-dashboard"))
	}
	if login == nil {
		if enrolment.PSK == "" {
			return hint.New("the control plane takes no passwords, and nobody is signed in who may make an account at the issuer", s.Login+", as an administrator; then: fleetctl server test -n "+s.Namespace)
		}
		login = nats.UserInfo(device, string(enrolment.PSK))
	}
	conn, err := s.await(ctx, login, nats.CustomInboxPrefix(wire.InboxPrefix(device)))
	if err != nil {
		return hint.Wrap(fmt.Errorf("connect as a device that is registered: %w", err), "the callout says why: "+s.kubectl("logs deployment/fleet-callout"))
	}
	defer conn.Close()
	return s.roundTrip(ctx, conn, device, hex.EncodeToString(random[4:8]))
}

// canaryToken makes the device's account and key, and gets a token with them.
func (s *Smoke) canaryToken(ctx context.Context, device string) (nats.Option, error) {
	account, err := s.Canary.Devices.Ensure(ctx, device)
	if zitadel.MayNot(err) {
		return nil, s.notTested("who is signed in may not make accounts there: " + err.Error())
	}
	if err != nil {
		return nil, fmt.Errorf("make an account for a device: %w", err)
	}
	dir, err := os.MkdirTemp("", "fleetctl-smoke")
	if err != nil {
		return nil, fmt.Errorf("make a device's key: %w", err)
	}
	defer os.RemoveAll(dir)
	store := devicekey.Store{Dir: dir, Owner: secretfile.Owner{UID: os.Getuid(), GID: os.Getgid()}}
	made, err := store.Make(false)
	if err != nil {
		return nil, fmt.Errorf("make a device's key: %w", err)
	}
	key, err := s.Canary.Devices.Register(ctx, account.UserID, made.Pending.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("register a device's key: %w", err)
	}
	if _, err := store.Bind(account.UserID, key.ID); err != nil {
		return nil, fmt.Errorf("make a device's key: %w", err)
	}
	source := credential.NewOIDC(credential.OIDCConfig{Issuer: s.Issuer, Project: s.Canary.Devices.Project, File: filepath.Join(dir, "identity.json"), // as devicekey names it

		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: s.tls(), Proxy: http.ProxyFromEnvironment}}})
	token, err := source.Credential(ctx)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("get a token as a device: %w", err), "does the issuer know the project, and does it give machines JWTs?")
	}
	return nats.Token(token.Token.Reveal()), nil
}

// await connects until every callout may have heard of the device, and no more
// often than callouts let anybody try.
func (s *Smoke) await(ctx context.Context, login nats.Option, more ...nats.Option) (*nats.Conn, error) {
	for {
		conn, err := s.dial(ctx, login, more...)
		if err == nil || !errors.Is(err, nats.ErrAuthorization) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(connectEvery):
		}
	}
}

// roundTrip writes the device's own key and reads it through the API.
func (s *Smoke) roundTrip(ctx context.Context, conn *nats.Conn, device, nonce string) error {
	mark := "smoke test " + nonce
	data, err := json.Marshal(wire.DeviceState{SchemaVersion: wire.SchemaVersion, Device: device, At: time.Now(),
		Deployments: []wire.DeploymentState{}, Warnings: []string{mark}})
	if err != nil {
		return fmt.Errorf("encode a report: %w", err)
	}
	answer, err := conn.RequestWithContext(ctx, wire.BucketState.Subject(wire.StateKey(device)), data)
	if err != nil {
		return hint.Wrap(fmt.Errorf("write a key: %w", err), "are the buckets there? "+s.kubectl("logs deployment/fleet-operator"))
	}
	var ack struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Error != nil {
		return hint.New(fmt.Sprintf("write a key: %s", strings.TrimSpace(string(answer.Data))), s.kubectl("logs deployment/fleet-operator"))
	}
	for {
		seen, err := s.Canary.API.Device(ctx, device)
		if err == nil && seen.State != nil && slices.Contains(seen.State.Warnings, mark) {
			return nil
		}
		if pause(ctx) != nil {
			if err == nil {
				err = errors.New("what the device wrote is not what the API reads")
			}
			return hint.Wrap(fmt.Errorf("read a key: %w", err), s.kubectl("logs deployment/fleet-dashboard"))
		}
	}
}

// remove leaves nothing of the device behind.
func (c *Canary) remove(ctx context.Context, device string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	errs := []error{c.Forget(ctx, device)}
	if c.Devices != nil {
		_, err := c.Devices.Remove(ctx, device)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return hint.Wrap(fmt.Errorf("remove the device of this test: %w", err), "kubectl delete device "+device)
	}
	return nil
}

// NATSRoots is the authority of the NATS servers' certificate where devices see
// that; nil: they see a public one.
func (i *Installer) NATSRoots(ctx context.Context, o *Options) (*x509.CertPool, error) {
	if !o.natsEndsTLS() {
		return nil, nil
	}
	secret := &corev1.Secret{}
	if err := i.Client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: natsTLSSecret}, secret); err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", natsTLSSecret, err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(secret.Data["ca.crt"])
	return roots, nil
}

// Canary is one that registers as the installation's own administrator.
func (i *Installer) Canary(ctx context.Context, o *Options, devices *provision.Devices) (*Canary, error) {
	secret := &corev1.Secret{}
	if err := i.Client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: adminSecret}, secret); err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", adminSecret, err)
	}
	through, err := apiclient.New(o.APIURL(), []byte(o.CA), string(secret.Data[keyAdminToken]))
	if err != nil {
		return nil, err
	}
	return &Canary{API: through, Devices: devices, Forget: func(ctx context.Context, device string) error {
		d := &unstructured.Unstructured{}
		d.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Device"))
		d.SetName(device)
		return client.IgnoreNotFound(i.Client.Delete(ctx, d))
	}}, nil
}
