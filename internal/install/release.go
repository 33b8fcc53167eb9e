package install

import (
	"context"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// release takes the finalizers from all objects of a kind that is about to go:
// the operator that would act on them is gone already, and without it they, and
// with them the kind, would stay for ever.
func (i *Installer) release(ctx context.Context, object *unstructured.Unstructured) error {
	definition := &apiextensionsv1.CustomResourceDefinition{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, definition); err != nil {
		return err
	}
	list := &unstructured.UnstructuredList{}
	for _, v := range definition.Spec.Versions {
		if v.Storage {
			list.SetGroupVersionKind(schema.GroupVersionKind{Group: definition.Spec.Group, Version: v.Name, Kind: definition.Spec.Names.Kind})
		}
	}
	if err := i.Client.List(ctx, list); err != nil {
		if meta.IsNoMatchError(err) {
			return nil
		}
		return fmt.Errorf("list %s: %w", definition.Spec.Names.Plural, err)
	}
	for n := range list.Items {
		o := &list.Items[n]
		if len(o.GetFinalizers()) == 0 {
			continue
		}
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
		if err := client.IgnoreNotFound(i.Client.Patch(ctx, o, patch)); err != nil {
			return fmt.Errorf("release %s: %w", nameOf(o), err)
		}
	}
	return nil
}
