//go:build browser

package browsertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// hostile is what a device may call itself, and print.
const hostile = `"><script>window.hacked=1</script><img src=x onerror="window.hacked=2">`

// TestInChromium plays a small fleet and has browser.test.mjs look at it.
func TestInChromium(t *testing.T) {
	s := startServer(t)
	web := &device{id: "pi-1", labels: map[string]string{"site": "lyon", "tier": "prod"},
		info: wire.Inventory{Hostname: "pi-1", OS: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.12.34+rpt-rpi-v8", Architecture: "arm64", Model: "Raspberry Pi 4 Model B Rev 1.5",
			CPUs: 4, MemoryBytes: 4 << 30, DiskBytes: 29 << 30, AgentVersion: "v1.0.0", PodmanVersion: "4.3.1", ContainerEngine: "podman"},
		output: []string{"listening on :80", hostile, "\x1b[31mred\x1b[0m", "the last line"}}
	evil := &device{id: "evil-1", labels: map[string]string{"site": "paris"}, info: wire.Inventory{Hostname: hostile, OS: hostile, Kernel: hostile, Architecture: "arm", Model: hostile, AgentVersion: hostile}}
	dep := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}, Spec: v1alpha1.DeploymentSpec{
		TargetSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"site": "lyon"}},
		Score: v1alpha1.Score{Type: wire.ScorePodmanV0, Data: v1alpha1.ScoreData{Services: []v1alpha1.Service{
			{Name: "web", Image: "registry.invalid/web:1", Ports: []v1alpha1.Port{"8080:80"}, Env: []v1alpha1.EnvVar{{Name: "TOKEN", Value: "hunter2"}}}}}},
		Rollout: &v1alpha1.Rollout{},
	}}
	// The browser asks for what happens outside of it.
	steps := map[string]func(){
		"devices": func() {
			web.connect(t, s)
			evil.connect(t, s)
		},
		"deploy": func() {
			if err := s.kube.Create(t.Context(), dep); err != nil {
				t.Fatal(err)
			}
			web.report(t, "web", string(dep.UID), dep.Generation, wire.PhaseRunning, "")
		},
		"fail":    func() { web.report(t, "web", string(dep.UID), dep.Generation, wire.PhaseFailed, hostile) },
		"recover": func() { web.report(t, "web", string(dep.UID), dep.Generation, wire.PhaseRunning, "") },
		"change": func() {
			base := client.MergeFrom(dep.DeepCopy())
			dep.Spec.Score.Data.Services[0].Image = "registry.invalid/web:2"
			dep.Spec.Score.Data.Services[0].Env[0].Value = "hunter3"
			if err := s.kube.Patch(t.Context(), dep, base); err != nil {
				t.Fatal(err)
			}
			web.report(t, "web", string(dep.UID), dep.Generation, wire.PhaseRunning, "")
		},
		"label": func() { // a change that somebody makes elsewhere
			d := &v1alpha1.Device{}
			if err := s.kube.Get(t.Context(), client.ObjectKey{Name: "pi-1"}, d); err != nil {
				t.Fatal(err)
			}
			base := client.MergeFrom(d.DeepCopy())
			d.Labels["marked"] = "now"
			if err := s.kube.Patch(t.Context(), d, base); err != nil {
				t.Fatal(err)
			}
		},
		"offline": func() { web.disconnect(t) },
	}
	mux := http.NewServeMux()
	for name, step := range steps {
		mux.HandleFunc("POST /"+name, func(http.ResponseWriter, *http.Request) { step() })
	}
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		web.mu.Lock()
		defer web.mu.Unlock()
		d := &v1alpha1.Deployment{}
		if err := s.kube.Get(r.Context(), client.ObjectKeyFromObject(dep), d); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"restarts": web.restarts, "paused": d.Spec.Rollout.Paused, "image": d.Spec.Score.Data.Services[0].Image, "restarted": d.Spec.Score.RestartedAt != nil})
	})
	control := httptest.NewServer(mux)
	defer control.Close()

	shots := os.Getenv("SCREENSHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	node := exec.CommandContext(t.Context(), "node", "--test", "--test-reporter=spec", "browser.test.mjs")
	node.Env = append(os.Environ(), "FLEET_URL="+s.endpoints.APIURL, "CONTROL_URL="+control.URL, "PASSWORD="+password, "SCREENSHOTS="+shots, "PROFILE="+t.TempDir())
	var out bytes.Buffer
	node.Stdout, node.Stderr = &out, &out
	began := time.Now()
	if err := node.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, &out, tail(filepath.Join(s.dir, "log", "fleet-server.log")))
	}
	t.Logf("%s\n%s", time.Since(began).Round(time.Second), &out)
}

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprint(err)
	}
	lines := bytes.Split(data, []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}
