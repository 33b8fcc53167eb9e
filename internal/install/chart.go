package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// ChartName is the name of the chart, and of its directory.
const ChartName = "fleet"

// Chart gives the files of a Helm chart of the installation that o describes:
// the same objects, with what may differ from place to place as values. What
// changes the shape of an installation is decided here: the way it is exposed,
// whether NATS runs beside it, and whether devices have passwords.
//
// It holds no Secrets. Helm has no function for NATS keys, and what a template
// makes is made again at each upgrade: fleetctl server install --print-secrets
// makes them, once.
func (o *Options) Chart() (map[string][]byte, error) {
	marked := *o
	for _, v := range chartValues(o) {
		v.mark(&marked)
	}
	objects, err := marked.Objects(Cluster{OpenShift: o.Expose == ExposeRoute, ServiceMonitor: true, PrometheusRule: true}, nil)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, object := range objects {
		name := nameOf(object)
		if name == "Namespace "+marked.Namespace || strings.HasSuffix(name, "/"+optionsMap) {
			continue // Helm's own business
		}
		text, err := template(object, o)
		if err != nil {
			return nil, err
		}
		file := "templates/" + fileOf(object) + ".yaml"
		files[file] = append(files[file], text...)
	}
	version := strings.TrimPrefix(o.Version, "v")
	if !isSemver(version) {
		version = "0.0.0-" + strings.ToLower(strings.ReplaceAll(labelValue(version), "_", "-"))
	}
	metadata := struct {
		APIVersion  string `json:"apiVersion"`
		Name        string `json:"name"`
		Description string `json:"description"`
		Type        string `json:"type"`
		Version     string `json:"version"`
		AppVersion  string `json:"appVersion"`
		KubeVersion string `json:"kubeVersion"`
	}{"v2", ChartName, "The control plane of a fleet of devices", "application", version, o.Version, ">=1.30.0-0"}
	if files["Chart.yaml"], err = yaml.Marshal(metadata); err != nil {
		return nil, fmt.Errorf("encode Chart.yaml: %w", err)
	}
	files["values.yaml"] = valuesFile(chartValues(o))
	if files["values.schema.json"], err = valuesSchema(chartValues(o)); err != nil {
		return nil, err
	}
	files["templates/NOTES.txt"] = []byte(chartNotes)
	return files, nil
}

const chartNotes = `The API and the dashboard are at https://{{ .Values.domain }}.

Its Secrets are made once, outside of Helm; without them no pod starts:
  fleetctl server install --print-secrets … | kubectl apply -f -
The same prints ConfigMap fleet-nats-accounts: what the NATS servers have to be
configured with.
`

// template is one object with its values as template expressions.
func template(object client.Object, o *Options) ([]byte, error) {
	u, err := toUnstructured(object)
	if err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", nameOf(u), err)
	}
	// What looks like an expression already is text to us, as in a CRD's descriptions.
	text = bytes.ReplaceAll(text, []byte("{{"), []byte(`{{ "{{" }}`))
	var out bytes.Buffer
	for line := range strings.Lines(string(text)) {
		out.WriteString(substitute(line, chartValues(o)))
	}
	body := out.String()
	if u.GetAPIVersion() == monitoringAPI || u.GetName() == dashboardMap {
		body = "{{- if .Capabilities.APIVersions.Has \"" + monitoringAPI + "\" }}\n" + body + "{{- end }}\n"
	}
	return []byte("---\n" + body), nil
}

// substitute puts expressions in the place of marks. A line whose value is an
// optional one is left out where that is empty.
func substitute(line string, values []chartValue) string {
	var optional string
	for _, v := range values {
		if !strings.Contains(line, v.marker) {
			continue
		}
		line = strings.ReplaceAll(line, v.marker, v.expression())
		if v.optional {
			optional = v.path
		}
	}
	if strings.Contains(line, "{{ ") && !strings.Contains(line, `{{ "{{" }}`) && strings.Contains(line, ": {{ ") {
		// A value that is an expression alone has to stay a string.
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if strings.HasPrefix(value, "{{ ") && strings.HasSuffix(value, " }}") && strings.Count(value, "{{") == 1 {
			line = key + ": " + strings.TrimSuffix(value, " }}") + " | quote }}\n"
		}
	}
	if optional != "" {
		return "{{- if .Values." + optional + " }}\n" + line + "{{- end }}\n"
	}
	return line
}

// fileOf groups objects by what they belong to.
func fileOf(o client.Object) string {
	switch o.GetObjectKind().GroupVersionKind().Group {
	case "apiextensions.k8s.io", "admissionregistration.k8s.io":
		return "crds"
	}
	if part := o.GetLabels()[labelComponent]; part != "" {
		return strings.TrimPrefix(part, "fleet-")
	}
	return strings.ToLower(o.GetObjectKind().GroupVersionKind().Kind)
}

// WriteChart writes the chart into a directory that is new or empty, or that an
// earlier version of it is in.
func (o *Options) WriteChart(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write chart: %w", err)
	}
	if len(entries) > 0 {
		old, err := os.ReadFile(filepath.Join(dir, "Chart.yaml"))
		if err != nil || !bytes.Contains(old, []byte("name: "+ChartName+"\n")) {
			return fmt.Errorf("write chart: %s is not empty, and holds no chart of ours", dir)
		}
		if err := os.RemoveAll(filepath.Join(dir, "templates")); err != nil {
			return fmt.Errorf("write chart: %w", err)
		}
	}
	files, err := o.Chart()
	if err != nil {
		return err
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write chart: %w", err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil { //nolint:gosec // nothing secret is in a chart
			return fmt.Errorf("write chart: %w", err)
		}
	}
	return nil
}

// valuesSchema is values.schema.json (JSON Schema draft 7, which Helm checks
// values against).
func valuesSchema(values []chartValue) ([]byte, error) {
	root := map[string]any{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": true, "properties": map[string]any{}}
	for _, v := range values {
		if v.path == "" {
			continue
		}
		at := root
		names := strings.Split(v.path, ".")
		for _, name := range names[:len(names)-1] {
			next, ok := at["properties"].(map[string]any)[name].(map[string]any)
			if !ok {
				next = map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
				at["properties"].(map[string]any)[name] = next
			}
			at = next
		}
		at["properties"].(map[string]any)[names[len(names)-1]] = v.schema()
	}
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode values.schema.json: %w", err)
	}
	return append(data, '\n'), nil
}
