package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
)

// ErrNotInstalled says that a namespace holds no installation.
var ErrNotInstalled = errors.New("there is no installation")

// Installed reads the options that the installation in a namespace was made
// with.
func (i *Installer) Installed(ctx context.Context, namespace string) (Options, error) {
	m := &corev1.ConfigMap{}
	err := i.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: optionsMap}, m)
	if apierrors.IsNotFound(err) {
		return Options{}, hint.Wrap(fmt.Errorf("%w in namespace %s", ErrNotInstalled, namespace), "install one with: fleetctl server install; or name its namespace with --namespace")
	}
	if err != nil {
		return Options{}, fmt.Errorf("read what is installed: %w", err)
	}
	var o Options
	if err := json.Unmarshal([]byte(m.Data[optionsKey]), &o); err != nil {
		return Options{}, hint.Wrap(fmt.Errorf("read what is installed: ConfigMap %s: %w", optionsMap, err), "run fleetctl server install with all of its flags again")
	}
	return o, nil
}

// Removal is the plan of an uninstallation. Without purge everything that holds
// data or secrets stays: CRDs with Devices and Deployments, the audit log,
// Secrets, and the namespace they are in.
func (i *Installer) Removal(ctx context.Context, o Options, purge bool) (*Plan, error) {
	plan := &Plan{Options: o}
	releases, err := i.removeReleases(ctx, o.Namespace, nil)
	if err != nil {
		return nil, err
	}
	for _, k := range kinds() {
		if k.kept {
			plan.Changes, releases = append(plan.Changes, releases...), nil // parts are gone before what they need
		}
		if k.kept && !purge {
			continue
		}
		owned, err := i.owned(ctx, &o, k)
		if err != nil {
			return nil, err
		}
		for n := range owned {
			plan.Changes = append(plan.Changes, Change{Action: Delete, Object: nameOf(&owned[n]), object: &owned[n]})
		}
	}
	if purge {
		volumes, err := i.volumes(ctx, o.Namespace)
		if err != nil {
			return nil, err
		}
		plan.Changes = append(plan.Changes, volumes...)
	}
	return plan, nil
}

// volumes are those that StatefulSets of our releases asked for: nobody removes
// them with it.
func (i *Installer) volumes(ctx context.Context, namespace string) ([]Change, error) {
	var changes []Change
	for _, name := range releaseNames() {
		list := &corev1.PersistentVolumeClaimList{}
		if err := i.Client.List(ctx, list, client.InNamespace(namespace), client.MatchingLabels{labelInstance: name}); err != nil {
			return nil, fmt.Errorf("list volumes of %s: %w", name, err)
		}
		for n := range list.Items {
			list.Items[n].SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
			u, err := toUnstructured(&list.Items[n])
			if err != nil {
				return nil, err
			}
			changes = append(changes, Change{Action: Delete, Object: nameOf(u), object: u})
		}
	}
	return changes, nil
}

// AwaitGone waits until nothing of a removal is left.
func (i *Installer) AwaitGone(ctx context.Context, p *Plan, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not within %s", timeout))
	defer cancel()
	for n := range p.Changes {
		c := &p.Changes[n]
		if c.object == nil {
			continue // Helm has waited
		}
		for {
			err := i.Client.Get(ctx, client.ObjectKeyFromObject(c.object), c.object.DeepCopy())
			if apierrors.IsNotFound(err) {
				break
			}
			if err := pause(ctx); err != nil {
				return fmt.Errorf("wait until %s is gone: %w", c.Object, err)
			}
		}
	}
	return nil
}
