package install

import (
	"fmt"
	"io"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Print writes objects as YAML documents.
func Print(w io.Writer, objects []client.Object) error {
	for _, object := range objects {
		u, err := toUnstructured(object)
		if err != nil {
			return err
		}
		text, err := yaml.Marshal(u.Object)
		if err != nil {
			return fmt.Errorf("encode %s: %w", nameOf(u), err)
		}
		if _, err := fmt.Fprintf(w, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}

// SecretObjects are the Secrets alone, and what NATS has to be told of them.
func (o *Options) SecretObjects(secrets Secrets) ([]client.Object, error) {
	var all []client.Object
	for _, name := range o.secretNames() {
		all = append(all, o.secret(name, secrets[name]))
	}
	accounts, err := o.accountsMap(secrets)
	if err != nil {
		return nil, err
	}
	return append(all, accounts), nil
}
