package install

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

func example() Options {
	o := Defaults("v1.2.3")
	o.Domain, o.Issuer, o.ProjectID, o.ClientID = "fleet.example.com", "https://sso.example.com", "1234", "5678"
	o.NATSURLs = []string{"tls://nats-a.example.com:4222", "tls://nats-b.example.com:4222"}
	return o
}

// helm runs the real Helm, of the version whose SDK fleetctl-helm uses.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"tool", "helm"}, args...)...)
	cmd.Dir, cmd.Env = filepath.Join("..", "..", "helm"), helmBuild()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// helmBuild are the flags that fleetctl-helm is built with: most of Helm is in
// it, and not compiled twice.
func helmBuild() []string { return append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath") }

// TestChartIsWhatInstallApplies: with the same choices the chart gives the very
// objects that install applies, in every shape.
func TestChartIsWhatInstallApplies(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Helm")
	}
	shapes := map[string]func(*Options){
		"ingress": func(*Options) {},
		"ingress full": func(o *Options) {
			o.IngressClass, o.ClusterIssuer, o.StorageClass, o.DashboardID, o.KubernetesURL = "nginx", "letsencrypt", "fast", "9", "https://k8s.example.com:6443"
		},
		"route":        func(o *Options) { o.Expose = ExposeRoute },
		"gateway":      func(o *Options) { o.Expose, o.Gateway = ExposeGateway, "infra/public" },
		"loadbalancer": func(o *Options) { o.Expose, o.Passwords = ExposeLoadBalancer, true },
		"with NATS":    func(o *Options) { o.NATSURLs, o.WithNATS = nil, true },
	}
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			o := example()
			shape(&o)
			dir := filepath.Join(t.TempDir(), "chart")
			if err := o.WriteChart(dir); err != nil {
				t.Fatal(err)
			}
			helm(t, "lint", "--strict", dir)
			rendered := documents(t, helm(t, "template", "fleet", dir, "--namespace", o.Namespace, "--api-versions", "monitoring.coreos.com/v1"))
			objects, err := o.Objects(Cluster{OpenShift: o.Expose == ExposeRoute, ServiceMonitor: true, PrometheusRule: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, object := range objects {
				name := nameOf(object)
				if name == "Namespace "+o.Namespace || strings.HasSuffix(name, "/"+optionsMap) {
					continue
				}
				if want, got := canonical(t, object), rendered[name]; got != want {
					t.Errorf("%s: the chart gives\n%s\nand install applies\n%s", name, got, want)
				}
				delete(rendered, name)
			}
			for name := range rendered {
				t.Errorf("the chart has %s, which install does not apply", name)
			}
		})
	}
}

// TestChartValuesAreChecked: what is no domain, no URL or no number is refused
// by the schema, before anything is applied.
func TestChartValuesAreChecked(t *testing.T) {
	if testing.Short() {
		t.Skip("builds Helm")
	}
	o := example()
	dir := filepath.Join(t.TempDir(), "chart")
	if err := o.WriteChart(dir); err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"domain=nodots", "issuer.url=http://plain.example.com", "devices=0", "natsURLs={http://x}", "image.tagg=v2", "bucketReplicas=three"} {
		cmd := exec.Command("go", "tool", "helm", "template", "fleet", dir, "--set", set)
		cmd.Dir, cmd.Env = filepath.Join("..", "..", "helm"), helmBuild()
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "schema") {
			t.Errorf("--set %s: %v\n%.300s", set, err, out)
		}
	}
}

// documents are the objects of rendered YAML by their names.
func documents(t *testing.T, text string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, document := range strings.Split("\n"+text, "\n---\n") {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if len(object) == 0 {
			continue
		}
		meta := object["metadata"].(map[string]any)
		name := meta["name"].(string)
		if namespace, ok := meta["namespace"].(string); ok {
			name = namespace + "/" + name
		}
		data, err := json.MarshalIndent(object, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		all[object["kind"].(string)+" "+name] = string(data)
	}
	return all
}

func canonical(t *testing.T, o client.Object) string {
	t.Helper()
	u, err := toUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.MarshalIndent(u.Object, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
