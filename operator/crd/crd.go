// Package crd holds the CustomResourceDefinitions that are generated from
// operator/api/v1alpha1, and installs them. It owns no type.
package crd

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	clientset "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

//go:generate go tool controller-gen crd:maxDescLen=400 paths=../api/v1alpha1 output:crd:dir=.
//go:generate go run ./gen .

//go:embed *.yaml
var manifests embed.FS

// FieldManager owns the CRDs in server-side apply.
const FieldManager = "fleet-operator"

const (
	pollInterval   = 50 * time.Millisecond
	establishLimit = 60 * time.Second
)

// Manifest is one CRD as it was generated.
type Manifest struct {
	Name string // of the object
	YAML []byte
}

// All gives the CRDs, sorted by file name.
func All() ([]Manifest, error) {
	files, err := fs.Glob(manifests, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list embedded CRDs: %w", err)
	}
	var all []Manifest
	for _, file := range files {
		data, err := manifests.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read embedded CRD: %w", err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(data, &crd); err != nil {
			return nil, fmt.Errorf("decode embedded CRD %s: %w", file, err)
		}
		all = append(all, Manifest{Name: crd.Name, YAML: data})
	}
	return all, nil
}

// Install applies the CRDs and the policy that goes with them, and waits until the API server serves them. It is
// idempotent and brings older ones up to date.
func Install(ctx context.Context, config *rest.Config) error {
	all, err := All()
	if err != nil {
		return err
	}
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("install CRDs: %w", err)
	}
	crds := client.CustomResourceDefinitions()
	force := true
	for _, m := range all {
		options := metav1.PatchOptions{FieldManager: FieldManager, Force: &force}
		if _, err := crds.Patch(ctx, m.Name, types.ApplyYAMLPatchType, m.YAML, options); err != nil {
			return fmt.Errorf("apply CRD %s: %w", m.Name, err)
		}
	}
	if err := installPolicy(ctx, config); err != nil {
		return err
	}
	for _, m := range all {
		if err := awaitEstablished(ctx, crds, m.Name); err != nil {
			return err
		}
	}
	return nil
}

func awaitEstablished(ctx context.Context, crds clientset.CustomResourceDefinitionInterface, name string) error {
	last := "no condition yet"
	err := wait.PollUntilContextTimeout(ctx, pollInterval, establishLimit, true, func(ctx context.Context) (bool, error) {
		crd, err := crds.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range crd.Status.Conditions {
			if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
			if c.Status == apiextensionsv1.ConditionFalse {
				last = fmt.Sprintf("%s: %s", c.Reason, c.Message)
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait until CRD %s is established (%s): %w", name, last, err)
	}
	return nil
}
