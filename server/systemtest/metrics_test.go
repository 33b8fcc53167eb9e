package systemtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/nationtech/fleetctl/internal/monitoring"
)

// exported are the labels of each series' name.
type exported map[string]map[string]bool

// scrape reads a page of metrics; token may be "".
func scrape(t *testing.T, client *http.Client, url, token string) (exported, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("scrape %s: %s, %v\n%s", url, response.Status, err, page)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(page)))
	if err != nil {
		t.Fatalf("scrape %s: %v", url, err)
	}
	all := exported{}
	for name, f := range families {
		labels := map[string]bool{"instance": true, "job": true, "le": true} // of every target; of every histogram
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		all[name] = labels
		if f.GetType().String() == "HISTOGRAM" {
			all[name+"_bucket"] = labels
		}
	}
	return all, string(page)
}

var (
	selectors = regexp.MustCompile(`\b((?:fleet|process|go|workqueue|controller_runtime)_[a-z0-9_]+)(?:\{([^}]*)\})?`)
	matchers  = regexp.MustCompile(`([a-z_]+)\s*[!=]~?"`)
	groupings = regexp.MustCompile(`\b(?:by|on|group_left)\s*\(([^)]*)\)`)
)

// check compares what dashboard and alerts ask for with what is exported.
func (e exported) check(t *testing.T, without ...string) {
	t.Helper()
	for _, query := range monitoring.Queries() {
		grouped := map[string]bool{}
		skip := false
		for _, m := range selectors.FindAllStringSubmatch(query, -1) {
			name, labels := m[1], e[m[1]]
			if slices.ContainsFunc(without, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
				skip = true
				continue
			}
			if labels == nil {
				t.Errorf("%s is asked for by %q, and nobody exports it", name, query)
			}
			for _, l := range matchers.FindAllStringSubmatch(m[2], -1) {
				if !labels[l[1]] {
					t.Errorf("%s has no label %s, which %q asks for; it has %v", name, l[1], query, slices.Sorted(maps.Keys(labels)))
				}
			}
			maps.Copy(grouped, labels)
		}
		for _, g := range groupings.FindAllStringSubmatch(query, -1) {
			for label := range strings.SplitSeq(g[1], ",") {
				if label = strings.TrimSpace(label); !skip && !grouped[label] {
					t.Errorf("nothing that %q asks for has the label %s", query, label)
				}
			}
		}
	}
}

// testMetrics scrapes a server that has a device, as a monitoring system does.
func testMetrics(t *testing.T, p *process, d *device, objects dynamic.Interface) {
	t.Helper()
	// Some series are there once something happened: a refused connection, a
	// rollout.
	if nc, err := d.dial(nats.UserInfo(d.ID, "wrong"), nats.MaxReconnects(0)); err == nil {
		nc.Close()
		t.Error("a wrong password is good")
	}
	rollout := hello()
	rollout.SetName("nowhere")
	_ = unstructured.SetNestedMap(rollout.Object, map[string]any{"matchLabels": map[string]any{"site": "nowhere"}}, "spec", "targetSelector")
	_ = unstructured.SetNestedMap(rollout.Object, map[string]any{"batch": int64(1)}, "spec", "rollout")
	of := objects.Resource(deployments).Namespace("default")
	if _, err := of.Create(t.Context(), rollout, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a rollout in the status", func(ctx context.Context) (bool, error) {
		got, err := of.Get(ctx, "nowhere", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		_, there, err := unstructured.NestedMap(got.Object, "status", "rollout")
		return there, err
	})

	ca, err := os.ReadFile(p.ready.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	token, err := os.ReadFile(p.ready.MetricsTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	url, bearer := p.ready.APIURL+"/metrics", strings.TrimSpace(string(token))
	scrape(t, client, url, bearer) // which is a request that the next one tells of
	var page string
	eventually(t, "the metrics of a fleet with a device", func(context.Context) (bool, error) {
		var all exported
		if all, page = scrape(t, client, url, bearer); all["fleet_operator_deployment_rollout_phase"] == nil {
			return false, nil // the cache lags behind the API
		}
		for _, want := range []string{
			"fleet_operator_devices 2", "fleet_operator_leading 1", "fleet_presence_connected_devices 1",
			`fleet_operator_deployment_devices{deployment="hello",deployment_namespace="default",outcome="succeeded"} 1`,
			`fleet_bucket_present{bucket="desired-state"} 1`, `fleet_part_info{part="all",`,
			`fleet_certificate_expiry_timestamp_seconds{certificate="nats"}`,
		} {
			if !strings.Contains(page, want) {
				return false, nil
			}
		}
		all.check(t)
		return true, nil
	})
	lint(t, page)
	if strings.Contains(page, bearer) {
		t.Error("the page shows its own token")
	}
}

// lint has Prometheus' own rules for names and help texts look at what is ours.
func lint(t *testing.T, page string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "fleet_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// checkMetrics scrapes every part of a cluster: all of them together have to
// export what the dashboard asks for.
func (c *cluster) checkMetrics(t *testing.T) {
	t.Helper()
	all := exported{}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	for _, p := range c.parts() {
		of, page := scrape(t, client, p.status+"/metrics", "")
		lint(t, page)
		for name, labels := range of {
			if all[name] == nil {
				all[name] = map[string]bool{}
			}
			maps.Copy(all[name], labels)
		}
	}
	// Disk and NATS are somebody else's there, and nobody rolls anything out here.
	all.check(t, "fleet_data_directory_", "fleet_store_limit_", "fleet_operator_deployment_rollout_")
}
