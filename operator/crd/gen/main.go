// Command gen finishes the generated CRDs with the one rule that controller-gen
// has no marker for: PodmanV0's data has no field but services. The schema has
// to keep unknown fields of other variants, and CEL cannot see them.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// file is the CRD to finish, in the directory that is the only argument.
const file = "fleet.nationtech.io_deployments.yaml"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen DIRECTORY")
		os.Exit(2)
	}
	if err := run(filepath.Join(os.Args[1], file)); err != nil {
		fmt.Fprintln(os.Stderr, "finish CRD:", err)
		os.Exit(1)
	}
}

func run(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var crd map[string]any
	if err := yaml.Unmarshal(data, &crd); err != nil {
		return fmt.Errorf("decode %s: %w", file, err)
	}
	versions, ok := crd["spec"].(map[string]any)["versions"].([]any)
	if !ok || len(versions) != 1 {
		return fmt.Errorf("%s: expected one version", file)
	}
	score, err := descend(versions[0], "schema", "openAPIV3Schema", "properties", "spec", "properties", "score")
	if err != nil {
		return err
	}
	score["anyOf"] = onlyServices()
	out, err := yaml.Marshal(crd)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte("---\n"), out...), 0o644)
}

// onlyServices holds for another type, or for data with at most one field. A
// CEL rule makes sure that this one is services.
func onlyServices() []apiextensionsv1.JSONSchemaProps {
	one := int64(1)
	podman := apiextensionsv1.JSON{Raw: []byte(`"PodmanV0"`)}
	return []apiextensionsv1.JSONSchemaProps{
		{Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"type": {Not: &apiextensionsv1.JSONSchemaProps{Enum: []apiextensionsv1.JSON{podman}}},
		}},
		{Properties: map[string]apiextensionsv1.JSONSchemaProps{
			"data": {MaxProperties: &one},
		}},
	}
}

func descend(at any, path ...string) (map[string]any, error) {
	node, ok := at.(map[string]any)
	for _, key := range path {
		if ok {
			node, ok = node[key].(map[string]any)
		}
		if !ok {
			return nil, fmt.Errorf("%s: no %s in the schema", file, key)
		}
	}
	return node, nil
}
