//go:build apiserver

package cli

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

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// realServer is the built fleet-server.
type realServer struct {
	dir string
	Endpoints
	CAFingerprint string
}

func program(t *testing.T, name string) string {
	t.Helper()
	path := must(filepath.Abs(filepath.Join("../../bin", name)))(t)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run: make build", err)
	}
	return path
}

func startRealServer(t *testing.T) *realServer {
	t.Helper()
	s := &realServer{dir: filepath.Join(t.TempDir(), "server")}
	cmd := exec.Command(program(t, "fleet-server"), "all", "-o", "json", "--data-dir", s.dir)
	var logs bytes.Buffer
	cmd.Stderr = &logs
	out := must(cmd.StdoutPipe())(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("fleet-server: %v\n%s", err, logs.String())
		}
	})
	if err := json.NewDecoder(out).Decode(&s); err != nil {
		t.Fatalf("fleet-server is not ready: %v\n%s", err, logs.String())
	}
	return s
}

func (s *realServer) addUser(t *testing.T, name, role string) {
	t.Helper()
	cmd := exec.Command(program(t, "fleet-server"), "users", "add", name, "--role", role, "--data-dir", s.dir)
	cmd.Stdin = strings.NewReader(personsPassword + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// kubectl is client-go with nothing but the kubeconfig, whose credential plugin
// is the built fleetctl.
func (l *laptop) kubectl() client.Client {
	l.t.Helper()
	config := must(clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{ExplicitPath: l.kubeconfig()},
		&clientcmd.ConfigOverrides{CurrentContext: "fleet-local"}).ClientConfig())(l.t)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		l.t.Fatal(err)
	}
	return must(client.New(config, client.Options{Scheme: scheme}))(l.t)
}

const othersKubeconfig = `apiVersion: v1
kind: Config
current-context: work
clusters:
- name: work
  cluster: {server: "https://work.example:6443"}
contexts:
- name: work
  context: {cluster: work, user: me, namespace: mine}
users:
- name: me
  user: {token: sesame}
`

// TestSignInOpensKubernetes: a viewer and an operator sign in to a real
// fleet-server from two laptops; each may do there what the role allows, with
// fleetctl and with kubectl.
func TestSignInOpensKubernetes(t *testing.T) {
	s := startRealServer(t)
	caPEM := must(os.ReadFile(s.CAFile))(t)
	people := map[string]*laptop{}
	for name, r := range map[string]string{"vera": role.Viewer, "oscar": role.Operator} {
		s.addUser(t, name, r)
		l := newLaptop(t, program(t, "fleetctl"), caPEM)
		people[name] = &l
		if err := os.WriteFile(l.kubeconfig(), []byte(othersKubeconfig), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	vera, oscar := people["vera"], people["oscar"]

	// A server that is not known is trusted by nobody but a person, or by name.
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{nil, hint.CodeDeclined, s.CAFingerprint},
		{[]string{"--ca-fingerprint", "00:" + s.CAFingerprint[3:]}, hint.CodeAuth, "has another fingerprint"},
	} {
		if out, stderr, code := vera.run(append([]string{"login", "--server", s.APIURL}, tt.args...)...); code != tt.code || out != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("%v: exit code %d\n%s", tt.args, code, stderr)
		}
	}
	for name, l := range people {
		done, stderr, code := l.login(name, "approve", "--server", s.APIURL, "--ca-fingerprint", strings.ToLower(strings.ReplaceAll(s.CAFingerprint, ":", "")))
		if code != 0 || done.Context != "local" || done.KubeContext != "fleet-local" || done.Kubeconfig != l.kubeconfig() {
			t.Fatalf("%s: exit code %d, %+v\n%s", name, code, done, stderr)
		}
		config := must(clientcmd.LoadFromFile(l.kubeconfig()))(t)
		if config.CurrentContext != "work" || config.AuthInfos["me"].Token != "sesame" || config.Contexts["work"].Namespace != "mine" || config.Clusters["work"] == nil {
			t.Errorf("what was in the kubeconfig was changed: %+v", config)
		}
		if info := must(os.Stat(l.kubeconfig()))(t); info.Mode().Perm() != 0o640 {
			t.Errorf("the kubeconfig's mode became %v", info.Mode())
		}
	}

	web := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"}}
	if out, stderr, code := oscar.run("deploy", "web", "--image", "registry.example/web:1", "--all-devices"); code != 0 {
		t.Fatalf("deploy as an operator: exit code %d\n%s%s", code, out, stderr)
	}
	if out, stderr, code := vera.run("get", "deployments"); code != 0 || !strings.Contains(out, "web") {
		t.Errorf("get as a viewer: exit code %d\n%s%s", code, out, stderr)
	}
	for _, args := range [][]string{{"deploy", "web", "--delete", "--yes"}, {"ping", "pi-1"}, {"audit"}} {
		if _, stderr, code := vera.run(args...); code != hint.CodeAuth || !strings.Contains(stderr, "hint: ") {
			t.Errorf("%v as a viewer: exit code %d\n%s", args, code, stderr)
		}
	}
	if err := vera.kubectl().Delete(t.Context(), web); !apierrors.IsForbidden(err) {
		t.Errorf("delete as a viewer: %v", err)
	}
	if err := vera.kubectl().Get(t.Context(), client.ObjectKeyFromObject(web), web); err != nil {
		t.Errorf("it is gone after all: %v", err)
	}

	// Tokens end; the session goes on, for kubectl too (which keeps a token until
	// its end, so that this is the first that it asks for).
	before := oscar.age("local", time.Hour)
	if err := oscar.kubectl().Delete(t.Context(), web); err != nil {
		t.Errorf("delete as an operator: %v", err)
	}
	after := oscar.age("local", 0)
	if after.Bearer == before.Bearer {
		t.Error("the token was not renewed")
	}
	// One that the server refuses, although it should be good, is replaced.
	bad := after
	bad.Bearer = after.Bearer[:len(after.Bearer)-8] + "AAAAAAAA"
	oscar.write("local", bad)
	if _, stderr, code := oscar.run("ping", "pi-1"); code != hint.CodeFailed && code != hint.CodeUnreachable {
		t.Errorf("ping with a bad token: exit code %d\n%s", code, stderr)
	}
	if now := oscar.age("local", 0); now.Bearer == bad.Bearer {
		t.Error("the refused token stayed")
	}
	bad.Refresh = ""
	oscar.write("local", bad)
	if _, stderr, code := oscar.run("ping", "pi-1"); code != hint.CodeAuth || !strings.Contains(stderr, "hint: sign in again with: fleetctl login --context local") {
		t.Errorf("ping after the session's end: exit code %d\n%s", code, stderr)
	}
	if _, _, code := oscar.login("oscar", "approve"); code != 0 {
		t.Errorf("sign in again without a flag: exit code %d", code)
	}

	if out, stderr, code := oscar.run("context", "delete", "local", "--yes", "-o", "json"); code != 0 || !strings.Contains(out, `"deleted": "local"`) {
		t.Errorf("context delete: exit code %d\n%s%s", code, out, stderr)
	}
	config := must(clientcmd.LoadFromFile(oscar.kubeconfig()))(t)
	if len(config.Contexts) != 1 || len(config.Clusters) != 1 || len(config.AuthInfos) != 1 || config.CurrentContext != "work" {
		t.Errorf("after context delete the kubeconfig has %+v", config)
	}
}
