package install

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	// Next is what has to be done after it before the rest can be planned.
	Next Step
}

// Step is what lies between two plans of one installation: something that the
// second one depends on, and that nobody can know before.
type Step string

// The steps. Complete: there is no other plan.
const (
	Complete         Step = ""
	NamespaceIDs     Step = "the namespace gets its user ids"         // AwaitIDs
	IdentityProvider Step = "Zitadel is set up, and gives client ids" // AwaitZitadel, SetupToken
)

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
	plan := &Plan{}
	if o.WithZitadel {
		if plan.Next, err = i.prepareZitadel(ctx, &o, &cluster); err != nil {
			return nil, err
		}
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
	plan.Options, plan.NewSecrets = o, made
	if plan.Next == NamespaceIDs {
		// Everything else is in it, and waits.
		return plan, i.add(ctx, plan, objects[:1], map[string]bool{})
	}
	if o.WithZitadel && !cluster.CloudNativePG && len(secrets[zitadelSecret][keyPostgresDSN]) == 0 {
		return nil, errNoPostgres
	}
	releases, staleReleases, err := i.planReleases(ctx, &o, cluster, secrets)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	parts := slices.IndexFunc(objects, func(o client.Object) bool { _, part := o.(*appsv1.Deployment); return part })
	if err := i.add(ctx, plan, objects[:parts], wanted); err != nil {
		return nil, err
	}
	plan.Changes = append(plan.Changes, releases...) // the parts need them
	if plan.Next != Complete {
		return plan, nil
	}
	if err := i.add(ctx, plan, objects[parts:], wanted); err != nil {
		return nil, err
	}
	stale, err := i.stale(ctx, &o, wanted)
	if err != nil {
		return nil, err
	}
	plan.Changes = append(append(plan.Changes, stale...), staleReleases...)
	return plan, nil
}

// add plans what is different of these objects, and remembers their names.
func (i *Installer) add(ctx context.Context, plan *Plan, objects []client.Object, wanted map[string]bool) error {
	for _, object := range objects {
		u, err := toUnstructured(object)
		if err != nil {
			return err
		}
		wanted[nameOf(u)] = true
		change, err := i.compare(ctx, u)
		if err != nil {
			return err
		}
		if change != nil {
			plan.Changes = append(plan.Changes, *change)
		}
	}
	return nil
}

// prepareZitadel completes the options of an installation with a Zitadel from
// what there is of it, and says what is not there yet.
func (i *Installer) prepareZitadel(ctx context.Context, o *Options, cluster *Cluster) (Step, error) {
	kept, err := i.Installed(ctx, o.Namespace)
	if err != nil && !errors.Is(err, ErrNotInstalled) {
		return Complete, err
	}
	o.inherit(&kept)
	if cluster.OpenShift {
		found := false
		if cluster.FirstUser, cluster.FirstGroup, found, err = i.ids(ctx, o.Namespace); err != nil {
			return Complete, err
		}
		if !found {
			return NamespaceIDs, nil
		}
	}
	if o.ProjectID == "" {
		return IdentityProvider, nil
	}
	return Complete, nil
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
	var errs [4]error
	c.OpenShift, errs[0] = has("security.openshift.io", "v1", "SecurityContextConstraints")
	c.ServiceMonitor, errs[1] = has("monitoring.coreos.com", "v1", "ServiceMonitor")
	c.CloudNativePG, errs[2] = has(postgresKind().Group, postgresKind().Version, postgresKind().Kind)
	c.PrometheusRule, errs[3] = has("monitoring.coreos.com", "v1", "PrometheusRule")
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
