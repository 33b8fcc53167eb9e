//go:build apiserver

package crd_test

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/crd"
	"github.com/nationtech/fleetctl/operator/operatortest"
)

func TestMain(m *testing.M) { os.Exit(operatortest.Main(m)) }

const good = `
apiVersion: fleet.nationtech.io/v1alpha1
kind: Deployment
metadata: {name: NAME, namespace: default}
spec:
  targetSelector: SELECTOR
  score: SCORE
`

const (
	goodSelector = `{matchLabels: {site: lyon}}`
	goodService  = `name: web, image: "registry.example.com:5000/a/b:1.2@sha256:0123456789abcdef"`
)

func deployment(name, selector, score string) string {
	return strings.NewReplacer("NAME", name, "SELECTOR", selector, "SCORE", score).Replace(good)
}

func service(fields string) string {
	return deployment("hello", goodSelector, `{type: PodmanV0, data: {services: [{`+fields+`}]}}`)
}

func rollout(fields string) string {
	return strings.Replace(service(goodService), "spec:", "spec:\n  rollout: {"+fields+"}", 1)
}

func score(s string) string { return deployment("hello", goodSelector, s) }

func selector(s string) string {
	return deployment("hello", s, `{type: PodmanV0, data: {services: [{`+goodService+`}]}}`)
}

func create(t *testing.T, text string) (*unstructured.Unstructured, error) {
	t.Helper()
	client, err := dynamic.NewForConfig(operatortest.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatalf("the test's own YAML: %v\n%s", err, text)
	}
	kind := strings.ToLower(u.GetKind()) + "s"
	resource := client.Resource(v1alpha1.GroupVersion.WithResource(kind)).Namespace(u.GetNamespace())
	return resource.Create(t.Context(), u, metav1.CreateOptions{
		DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
}

func TestRefusals(t *testing.T) {
	install(t)
	long := strings.Repeat("a", 64)
	for _, tc := range []struct{ name, yaml, says string }{
		{"score type with a dash", score(`{type: Podman-V0, data: {}}`), "type must be letters, digits and _"},
		{"score type with a leading digit", score(`{type: 0Podman, data: {}}`), "type must be letters, digits and _"},
		{"empty score type", score(`{type: "", data: {}}`), "type must be letters, digits and _"},
		{"no score type", score(`{data: {}}`), "spec.score.type: Required"},
		{"score type is a number", score(`{type: 5, data: {}}`), "must be of type string"},
		{"no data", score(`{type: PodmanV0}`), "spec.score.data: Required"},
		{"data is a list", score(`{type: Other, data: []}`), "must be of type object"},
		{"no services", score(`{type: PodmanV0, data: {}}`), "PodmanV0 needs at least one service"},
		{"empty services", score(`{type: PodmanV0, data: {services: []}}`), "should have at least 1 items"},
		{"services is an object", score(`{type: PodmanV0, data: {services: web}}`), "must be of type array"},
		{"another field in the data", score(`{type: PodmanV0, data: {services: [{` + goodService + `}], bogus: 1}}`), `"spec.score" must validate at least one schema`},
		{"service without name", service(`image: nginx`), "name: Required"},
		{"service without image", service(`name: web`), "image: Required"},
		{"service with an unknown field", service(goodService + `, imgae: x`), `unknown field "spec.score.data.services[0].imgae"`},
		{"service name in upper case", service(`name: Web, image: nginx`), "name must be one RFC 1123 label"},
		{"service name with a dot", service(`name: a.b, image: nginx`), "name must be one RFC 1123 label"},
		{"service name of 64", service(`name: ` + long + `, image: nginx`), "Too long: may not be more than 63"},
		{"two services of one name", score(`{type: PodmanV0, data: {services: [{` + goodService + `}, {` + goodService + `}]}}`), "Duplicate value"},
		{"image with a blank", service(`name: web, image: "nginx latest"`), "image must be an image reference"},
		{"image with a scheme", service(`name: web, image: "https://x/"`), "image must be an image reference"},
		{"image in upper case", service(`name: web, image: Nginx`), "image must be an image reference"},
		{"image is a number", service(`name: web, image: 5`), "must be of type string"},
		{"empty image", service(`name: web, image: ""`), "image must be an image reference"},
		{"port without host", service(goodService + `, ports: ["80"]`), "port must be"},
		{"port 0", service(goodService + `, ports: ["0:80"]`), "port must be"},
		{"port 65536", service(goodService + `, ports: ["65536:80"]`), "port must be"},
		{"port with sctp", service(goodService + `, ports: ["80:80/sctp"]`), "port must be"},
		{"port is a number", service(goodService + `, ports: [8080]`), "must be of type string"},
		{"port range", service(goodService + `, ports: ["80-90:80-90"]`), "port must be"},
		{"a port twice", service(goodService + `, ports: ["80:80", "80:80"]`), "Duplicate value"},
		{"env name with a dash", service(goodService + `, env: [{name: A-B, value: x}]`), "name must be letters, digits and _"},
		{"env value is a number", service(goodService + `, env: [{name: A, value: 5}]`), "must be of type string"},
		{"env value with NUL", service(goodService + `, env: [{name: A, value: "a\0b"}]`), "should match"},
		{"env name twice", service(goodService + `, env: [{name: A, value: x}, {name: A, value: z}]`), "Duplicate value"},
		{"restart policy of another tool", service(goodService + `, restartPolicy: Always`), `supported values: "no", "on-failure", "always", "unless-stopped"`},
		{"restart policy no without quotes", service(goodService + `, restartPolicy: false`), "must be of type string"},
		{"relative volume", service(goodService + `, volumes: [{hostPath: data, containerPath: /data}]`), "path must be absolute and clean"},
		{"volume upwards", service(goodService + `, volumes: [{hostPath: /srv/../etc, containerPath: /data}]`), "path must be absolute and clean"},
		{"volume with a colon", service(goodService + `, volumes: [{hostPath: /srv, containerPath: "/data:z"}]`), "path must be absolute and clean"},
		{"volume with a trailing slash", service(goodService + `, volumes: [{hostPath: /srv/, containerPath: /data}]`), "path must be absolute and clean"},
		{"readOnly is a string", service(goodService + `, volumes: [{hostPath: /srv, containerPath: /data, readOnly: "yes"}]`), "must be of type boolean"},
		{"stop timeout without unit", service(goodService + `, stopTimeout: "90"`), "stopTimeout must be a duration"},
		{"stop timeout of two days", service(goodService + `, stopTimeout: 48h`), "stopTimeout must be a duration"},
		{"negative stop timeout", service(goodService + `, stopTimeout: -5s`), "stopTimeout must be a duration"},
		{"user with a blank", service(goodService + `, user: "a b"`), "user must be user[:group]"},
		{"relative working directory", service(goodService + `, workingDir: srv`), "path must be absolute and clean"},
		{"a reserved label", service(goodService + `, labels: {fleet.nationtech.io/managed: "false"}`), "a label key must be"},
		{"half a memory", service(goodService + `, limits: {memory: 0.5Gi}`), "must be an amount of memory"},
		{"no processor", service(goodService + `, limits: {cpus: "0"}`), "cpus must be a number of processors"},
		{"an empty health check", service(goodService + `, healthCheck: {}`), "healthCheck needs either a command or http"},
		{"a health check of both kinds", service(goodService + `, healthCheck: {command: [a], http: {port: 80}}`), "healthCheck needs either a command or http"},
		{"health checks without a pause", service(goodService + `, healthCheck: {command: [a], interval: 10ms}`), "must be at least 1s"},
		{"a device that is none", service(goodService + `, devices: ["/etc/passwd"]`), "device must be /dev/X"},
		{"a device upwards", service(goodService + `, devices: ["/dev/../etc/passwd"]`), "device must be /dev/X"},
		{"network of another tool", service(goodService + `, networkMode: bridge`), `supported values: "private", "host", "none"`},
		{"pull policy of another tool", service(goodService + `, pullPolicy: IfNotPresent`), `supported values: "missing", "always", "never"`},
		{"files from nowhere", service(goodService + `, files: [{path: /etc/app}]`), "a file needs either a secret or a configMap"},
		{"files from two places", service(goodService + `, files: [{path: /etc/app, secret: a, configMap: b}]`), "a file needs either a secret or a configMap"},
		{"a key with a slash", service(goodService + `, files: [{path: /etc/app, secret: a, keys: ["a/b"]}]`), "should match"},
		{"a variable with two values", service(goodService + `, env: [{name: A, value: x, valueFrom: {secretKeyRef: {name: a, key: b}}}]`), "a variable has a value or a valueFrom"},
		{"a variable from two places", service(goodService + `, env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: b}, configMapKeyRef: {name: a, key: b}}}]`), "valueFrom needs either"},
		{"credentials with a slash", service(goodService + `, registryCredentials: a/b`), "should match"},
		{"empty selector", selector(`{}`), "targetSelector must not be empty"},
		{"selector with empty parts", selector(`{matchLabels: {}, matchExpressions: []}`), "targetSelector must not be empty"},
		{"no selector", strings.Replace(selector(`{}`), "targetSelector: {}", "", 1), "spec.targetSelector: Required"},
		{"selector operator", selector(`{matchExpressions: [{key: site, operator: Equals, values: [a]}]}`), "Unsupported value"},
		{"In without values", selector(`{matchExpressions: [{key: site, operator: In}]}`), "In and NotIn need values"},
		{"Exists with values", selector(`{matchExpressions: [{key: site, operator: Exists, values: [a]}]}`), "Exists and DoesNotExist take none"},
		{"label key with a blank", selector(`{matchLabels: {"a b": c}}`), "a label key must be"},
		{"label value with a blank", selector(`{matchLabels: {a: "b c"}}`), "a label value must be"},
		{"name with a dot", deployment("a.b", goodSelector, `{type: X, data: {}}`), "metadata.name must be one RFC 1123 label"},
		{"name of 64", deployment(long, goodSelector, `{type: X, data: {}}`), "metadata.name must be one RFC 1123 label"},
		{"unknown field in spec", strings.Replace(score(`{type: X, data: {}}`), "spec:", "spec:\n  replicas: 3", 1), `unknown field "spec.replicas"`},
		{"batch of 0", rollout(`batch: 0`), "batch must be a number of devices from 1, such as 5, or a percentage"},
		{"batch of 0 %", rollout(`batch: 0%`), "batch must be a number of devices from 1"},
		{"batch of 101 %", rollout(`batch: 101%`), "batch must be a number of devices from 1"},
		{"batch as text", rollout(`batch: "5"`), "batch must be a number of devices from 1"},
		{"batch of half a device", rollout(`batch: 0.5`), "batch"},
		{"batch beyond what clients decode", rollout(`batch: 3000000000`), "batch must be a number of devices from 1"},
		{"maxUnavailable below 0", rollout(`maxUnavailable: -1`), "maxUnavailable must be a number of devices from 1"},
		{"groupBy with a blank", rollout(`groupBy: "a b"`), "groupBy must be the key of a label"},
		{"negative minReadySeconds", rollout(`minReadySeconds: -1`), "minReadySeconds must be between 0 and 86400"},
		{"no deadline", rollout(`progressDeadlineSeconds: 0`), "progressDeadlineSeconds must be between 1 and 86400"},
		{"a deadline before ready", rollout(`minReadySeconds: 60, progressDeadlineSeconds: 60`), "progressDeadlineSeconds must be greater than minReadySeconds"},
		{"a deadline before the default of ready", rollout(`progressDeadlineSeconds: 20`), "progressDeadlineSeconds must be greater than minReadySeconds"},
		{"negative maxFailures", rollout(`maxFailures: -1`), "maxFailures must be between 0"},
		{"a field of another tool", rollout(`maxSurge: 1`), `unknown field "spec.rollout.maxSurge"`},
		{"history below 0", strings.Replace(score(`{type: X, data: {}}`), "spec:", "spec:\n  revisionHistoryLimit: -1", 1), "revisionHistoryLimit must be between 0 and 100"},
		{"device id with a dot", "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata: {name: a.b}\n", "metadata.name (the device id) must be one RFC 1123 label"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := create(t, tc.yaml)
			if err == nil {
				t.Fatal("accepted")
			}
			if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("refused with %q, which does not say %q", err, tc.says)
			}
			t.Log(err)
		})
	}
}

func TestAccepted(t *testing.T) {
	install(t)
	for _, tc := range []struct{ name, yaml string }{
		{"the least", service(`name: web, image: nginx`)},
		{"everything", service(goodService + `, ports: ["8080:80", "127.0.0.1:53:53/udp", "[::1]:1:65535/tcp"], env: [{name: _A1, value: ""}],` +
			`volumes: [{hostPath: /, containerPath: /host, readOnly: true}], restartPolicy: "no", stopTimeout: 1m30s`)},
		{"every field", service(goodService + `, entrypoint: [/app], command: [serve, ""], user: "1000:www-data", workingDir: /srv, labels: {org.example/a: "b c"},` +
			`limits: {cpus: "0.5", memory: 128Mi}, healthCheck: {http: {port: 80, path: /healthz}, interval: 10s, timeout: 2s, retries: 5, startPeriod: 1m},` +
			`devices: ["/dev/ttyUSB0:/dev/modem:rw"], tmpfs: [{path: /tmp, size: 16Mi}], networkMode: private, pullPolicy: always, registryCredentials: registry,` +
			`dependsOn: [db], files: [{path: /etc/tls, secret: tls, keys: [tls.key]}, {path: /etc/app, configMap: app}],` +
			`env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: password}}}, {name: B, valueFrom: {configMapKeyRef: {name: app, key: mode}}}]`)},
		{"every device", selector(`{matchExpressions: [{key: device-id, operator: Exists}]}`)},
		{"all operators", selector(`{matchExpressions: [{key: a.example.com/b, operator: In, values: [x, ""]}, {key: c, operator: NotIn, values: ["y"]}, {key: d, operator: DoesNotExist}]}`)},
		{"a variant of the future", score(`{type: WasmV1, data: {modules: [{name: x, url: "https://example.com/x.wasm"}], limits: {fuel: 5}}}`)},
		{"the longest name", deployment(strings.Repeat("a", 63), goodSelector, `{type: _x, data: {}}`)},
		{"a rollout with nothing but defaults", rollout(``)},
		{"a rollout with everything", rollout(`batch: 5, maxUnavailable: 25%, groupBy: example.com/site, minReadySeconds: 0, progressDeadlineSeconds: 60, maxFailures: 2, paused: true, autoRollback: true, attempt: 3`)},
		{"a device made by hand", "apiVersion: fleet.nationtech.io/v1alpha1\nkind: Device\nmetadata: {name: pi-9, labels: {site: lyon}}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, err := create(t, tc.yaml)
			if err != nil {
				t.Fatal(err)
			}
			if tc.name == "a variant of the future" {
				fuel, found, err := unstructured.NestedInt64(u.Object, "spec", "score", "data", "limits", "fuel")
				if fuel != 5 || !found || err != nil {
					t.Errorf("its data was not kept: %v", u.Object["spec"])
				}
			}
		})
	}
}

// TestRolloutDefaults: what a rollout says by itself suits a fleet.
func TestRolloutDefaults(t *testing.T) {
	install(t)
	u, err := create(t, rollout(``))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := unstructured.NestedMap(u.Object, "spec", "rollout")
	want := map[string]any{"batch": "10%", "maxUnavailable": "10%", "minReadySeconds": int64(30), "progressDeadlineSeconds": int64(600), "maxFailures": int64(0)}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

func install(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := crd.Install(ctx, operatortest.Config(t)); err != nil {
		t.Fatal(err)
	}
}
