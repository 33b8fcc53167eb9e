package install

import (
	"context"
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
)

const (
	establishTimeout = time.Minute
	pollEvery        = 250 * time.Millisecond
)

// Apply does what the plan says, in its order, and stops at the first error:
// what comes later needs what came before.
func (i *Installer) Apply(ctx context.Context, p *Plan) error {
	for n := range p.Changes {
		c := &p.Changes[n]
		var err error
		switch {
		case c.release != nil && c.Action == Delete:
			err = i.Charts.Remove(ctx, c.release.Namespace, c.release.Name)
		case c.release != nil:
			err = i.Charts.Apply(ctx, *c.release)
		case c.Action == Delete:
			if c.object.GetKind() == "CustomResourceDefinition" {
				if err = i.release(ctx, c.object); err != nil {
					break
				}
			}
			err = client.IgnoreNotFound(i.Client.Delete(ctx, c.object, client.PropagationPolicy("Background")))
		default:
			err = i.apply(ctx, c.object.DeepCopy())
			switch {
			case err != nil:
			case c.object.GetKind() == "CustomResourceDefinition":
				err = i.awaitEstablished(ctx, c.object.GetName())
			case c.object.GroupVersionKind() == postgresKind():
				err = i.awaitPostgres(ctx, c.object)
			}
		}
		if err != nil {
			next := hint.Of(err)
			if next == "" {
				next = "what was done so far stays; once the cause is away, run the same command again"
			}
			return hint.Wrap(fmt.Errorf("%s %s: %w", c.Action, c.Object, err), next)
		}
		i.say("%s %s", past[c.Action], c.Object)
	}
	return nil
}

var past = map[Action]string{Create: "created", Update: "updated", Delete: "deleted"}

// awaitEstablished waits until objects of a kind can be made.
func (i *Installer) awaitEstablished(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, establishTimeout, fmt.Errorf("not established within %s", establishTimeout))
	defer cancel()
	for {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
		if err := i.Client.Get(ctx, client.ObjectKey{Name: name}, u); err != nil {
			return err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, crd); err != nil {
			return err
		}
		for _, c := range crd.Status.Conditions {
			if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
				return nil
			}
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(pollEvery):
		return nil
	}
}
