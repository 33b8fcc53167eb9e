package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/onboard"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// fleetServer is the control plane as onboarding sees it: fleet-server's API
// for enrolment and heartbeats, Kubernetes' for the device's object.
type fleetServer struct {
	api      *apiclient.Client
	kube     client.Client
	accounts *provision.Devices // at the issuer; nil where nobody is signed in
}

func newFleetServer(f *Factory) (*fleetServer, error) {
	server, err := f.API()
	if err != nil {
		return nil, err
	}
	kube, err := kubeClient(f)
	if err != nil {
		return nil, err
	}
	return &fleetServer{api: server, kube: kube}, nil
}

// Preview implements onboard.Enroller.
func (s *fleetServer) Preview(ctx context.Context, r onboard.Registration) (onboard.Enrolment, error) {
	return enrolment(s.api.Preview(ctx, r.Device, enrolmentRequest(r)))
}

// Enrol implements onboard.Enroller.
func (s *fleetServer) Enrol(ctx context.Context, r onboard.Registration) (onboard.Enrolment, error) {
	return enrolment(s.api.Enrol(ctx, r.Device, enrolmentRequest(r)))
}

func enrolmentRequest(r onboard.Registration) api.EnrolmentRequest {
	return api.EnrolmentRequest{MachineID: r.Machine, SealingKey: base64.StdEncoding.EncodeToString(r.SealingKey), Subject: r.Subject}
}

func enrolment(e api.Enrolment, err error) (onboard.Enrolment, error) {
	if err != nil {
		return onboard.Enrolment{}, err
	}
	keys, err := json.Marshal(e.SigningKeys)
	if err != nil {
		return onboard.Enrolment{}, fmt.Errorf("encode the signing keys: %w", err)
	}
	out := onboard.Enrolment{NATSURLs: e.NATSURLs, CAPEM: e.CAPEM, SigningKeys: append(keys, '\n'), PSK: onboard.Secret(e.PSK), Registered: e.Registered}
	if e.Issuer != nil {
		out.Issuer = onboard.Issuer{URL: e.Issuer.URL, Project: e.Issuer.ProjectID, CAPEM: e.Issuer.CAPEM}
	}
	return out, nil
}

// forget shuts the device out, then removes its object; the operator removes
// what the control plane keeps of it.
func (s *fleetServer) forget(ctx context.Context, device string) error {
	if _, err := s.api.Revoke(ctx, device); err != nil && apiclient.Code(err) != api.CodeNotFound {
		return fmt.Errorf("the host is clean, but the control plane still lets device %s in: %w", device, err)
	}
	object := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: device}}
	if err := s.kube.Delete(ctx, object); err != nil && !apierrors.IsNotFound(err) {
		return hint.Wrap(fmt.Errorf("the host is clean, but its Device object stays: %w", err), "remove it with: kubectl delete fleetdev "+device)
	}
	if s.accounts == nil {
		return nil
	}
	if _, err := s.accounts.Remove(ctx, device); err != nil {
		return fmt.Errorf("the host is clean and shut out, but its account at the issuer stays: %w", err)
	}
	return nil
}

// Mark implements onboard.Watcher.
func (s *fleetServer) Mark(ctx context.Context, device string) (onboard.Mark, error) {
	d, err := s.api.Device(ctx, device)
	switch {
	case apiclient.Code(err) == api.CodeNotFound:
		return onboard.Mark{}, nil
	case err != nil:
		return onboard.Mark{}, fmt.Errorf("ask about device %s: %w", device, err)
	case d.LastHeartbeat == nil:
		return onboard.Mark{}, nil
	}
	return onboard.Mark{LastHeartbeat: *d.LastHeartbeat}, nil
}

// Alive implements onboard.Watcher.
func (s *fleetServer) Alive(ctx context.Context, device string, since onboard.Mark) error {
	d, err := s.api.Device(ctx, device)
	switch {
	case err != nil:
		return err
	case !d.Connected:
		return errors.New("it is not connected to the control plane")
	case d.LastHeartbeat == nil || !d.LastHeartbeat.After(since.LastHeartbeat):
		return errors.New("it is connected, but no heartbeat came since its agent was started")
	}
	object, err := getDevice(ctx, s.kube, device)
	if err != nil {
		return err
	}
	if !meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionReady) {
		return errors.New("heartbeats arrive, but its Device object is not Ready yet")
	}
	// Its labels are written before its inventory: who deploys to them next finds the device.
	if object.Status.Inventory == (v1alpha1.Inventory{}) {
		return errors.New("it is Ready, but its Device object does not say yet what it is")
	}
	return nil
}
