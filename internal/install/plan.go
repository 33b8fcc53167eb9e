package install

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Action is what is done to an object.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
)

// Change is one object that is not as it should be.
type Change struct {
	Action Action `json:"action"`
	Object string `json:"object"` // Kind namespace/name
	Diff   string `json:"diff,omitempty"`

	object  *unstructured.Unstructured
	release *Release // instead of an object
}

// Plan is what an installation would change. It is data: Apply does this and
// nothing else.
type Plan struct {
	Options Options
	Changes []Change
	// NewSecrets are those that are made by it, by name.
	NewSecrets []string
}

// Installer looks at and changes the installation in one cluster.
type Installer struct {
	Client client.Client
	// Charts makes the releases of an installation; nil where it has none.
	Charts Charts
	// Progress hears what is done; may be nil.
	Progress func(string)
}

func (i *Installer) say(format string, args ...any) {
	if i.Progress != nil {
		i.Progress(fmt.Sprintf(format, args...))
	}
}

// Plan compares the cluster with what o asks for: each object as the API server
// would make it, by a dry run of the same request that Apply sends.
func (i *Installer) Plan(ctx context.Context, o Options) (*Plan, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	cluster, err := i.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	have, err := i.secrets(ctx, &o)
	if err != nil {
		return nil, err
	}
	secrets, made, err := o.Complete(have)
	if err != nil {
		return nil, err
	}
	objects, err := o.Objects(cluster, secrets)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Options: o, NewSecrets: made}
	releases, staleReleases, err := i.planReleases(ctx, &o, cluster, secrets)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, object := range objects {
		if _, part := object.(*appsv1.Deployment); part {
			plan.Changes, releases = append(plan.Changes, releases...), nil // the parts need them
		}
		u, err := toUnstructured(object)
		if err != nil {
			return nil, err
		}
		wanted[nameOf(u)] = true
		change, err := i.compare(ctx, u)
		if err != nil {
			return nil, err
		}
		if change != nil {
			plan.Changes = append(plan.Changes, *change)
		}
	}
	stale, err := i.stale(ctx, &o, wanted)
	if err != nil {
		return nil, err
	}
	plan.Changes = append(append(plan.Changes, stale...), staleReleases...)
	return plan, nil
}

// compare gives nil for an object that is as it should be.
func (i *Installer) compare(ctx context.Context, want *unstructured.Unstructured) (*Change, error) {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(want.GroupVersionKind())
	err := i.Client.Get(ctx, client.ObjectKeyFromObject(want), live)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err): // the kind may come with a CRD before it
		return &Change{Action: Create, Object: nameOf(want), object: want}, nil
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", nameOf(want), err)
	}
	would := want.DeepCopy()
	if err := i.apply(ctx, would, client.DryRunAll); err != nil {
		return nil, fmt.Errorf("try to apply %s: %w", nameOf(want), err)
	}
	diff, err := difference(live, would)
	if err != nil || diff == "" {
		return nil, err
	}
	return &Change{Action: Update, Object: nameOf(want), Diff: diff, object: want}, nil
}

// apply is a server-side apply; u then is what the server made of it. We own
// what we set: somebody else's change of it is drift, and is taken back.
func (i *Installer) apply(ctx context.Context, u *unstructured.Unstructured, more ...client.ApplyOption) error {
	return i.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), append(more, client.FieldOwner(FieldManager), client.ForceOwnership)...)
}

// secrets reads what is there of ours.
func (i *Installer) secrets(ctx context.Context, o *Options) (Secrets, error) {
	all := Secrets{}
	for _, name := range o.secretNames() {
		s := &corev1.Secret{}
		err := i.Client.Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: name}, s)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read Secret %s: %w", name, err)
		}
		all[name] = s.Data
	}
	return all, nil
}

// Cluster looks which optional kinds there are.
func (i *Installer) Cluster(context.Context) (Cluster, error) {
	has := func(group, version, kind string) (bool, error) {
		_, err := i.Client.RESTMapper().RESTMapping(groupKind(group, kind), version)
		if meta.IsNoMatchError(err) {
			return false, nil
		}
		return err == nil, err
	}
	var c Cluster
	var errs [2]error
	c.OpenShift, errs[0] = has("security.openshift.io", "v1", "SecurityContextConstraints")
	c.ServiceMonitor, errs[1] = has("monitoring.coreos.com", "v1", "ServiceMonitor")
	if err := errors.Join(errs[:]...); err != nil {
		return c, fmt.Errorf("look at what the cluster can do: %w", err)
	}
	return c, nil
}

// toUnstructured is an object as it is sent: without what the server fills in.
func toUnstructured(o client.Object) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: fields}
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(u.Object, "spec", "template", "metadata", "creationTimestamp")
	if strategy, ok, _ := unstructured.NestedMap(u.Object, "spec", "strategy"); ok && len(strategy) == 0 {
		unstructured.RemoveNestedField(u.Object, "spec", "strategy")
	}
	return u, nil
}

func nameOf(o client.Object) string {
	name := o.GetName()
	if o.GetNamespace() != "" {
		name = o.GetNamespace() + "/" + name
	}
	return o.GetObjectKind().GroupVersionKind().Kind + " " + name
}
