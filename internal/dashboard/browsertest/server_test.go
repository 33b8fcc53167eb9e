//go:build browser

package browsertest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const password = "correct horse battery staple"

// server is a running fleet-server.
type server struct {
	dir       string
	endpoints struct {
		Kubeconfig     string `json:"kubeconfig"`
		APIURL         string `json:"apiURL"`
		CAFile         string `json:"caFile"`
		AdminTokenFile string `json:"adminTokenFile"`
	}
	kube client.Client
	api  *apiclient.Client
}

func startServer(t *testing.T) *server {
	t.Helper()
	binary := must(filepath.Abs("../../../bin/fleet-server"))(t)
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("%v; run: make fleet-server", err)
	}
	s := &server{dir: filepath.Join(t.TempDir(), "server")}
	var output bytes.Buffer
	cmd := exec.Command(binary, "all", "--data-dir", s.dir, "--allow-psk")
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("fleet-server did not stop cleanly: %v\n%s", err, &output)
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("fleet-server did not stop within 30 s")
		}
	})
	eventually(t, 90*time.Second, "fleet-server is up", func() bool {
		data, err := os.ReadFile(filepath.Join(s.dir, "endpoints.json"))
		return err == nil && json.Unmarshal(data, &s.endpoints) == nil && s.endpoints.APIURL != ""
	})
	for name, role := range map[string]string{"ada": "fleet-admin", "otto": "fleet-operator", "vera": "fleet-viewer"} {
		add := exec.Command(binary, "users", "add", name, "--role", role, "--data-dir", s.dir)
		add.Stdin = strings.NewReader(password + "\n")
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("users add: %v\n%s", err, out)
		}
	}
	config := must(clientcmd.BuildConfigFromFlags("", s.endpoints.Kubeconfig))(t)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	s.kube = must(client.New(config, client.Options{Scheme: scheme}))(t)
	token := must(os.ReadFile(s.endpoints.AdminTokenFile))(t)
	s.api = must(apiclient.New(s.endpoints.APIURL, must(os.ReadFile(s.endpoints.CAFile))(t), string(token)))(t)
	return s
}

func eventually(t *testing.T, within time.Duration, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !check(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, within)
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
