package systemtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/nationtech/fleetctl/internal/machineid"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

// podUser is a user id as OpenShift assigns them: no account has it. Its volumes
// belong to root and to the group of the same number.
const podUser = 1_000_650_000

// TestAgentAsPod runs the agent as its image does in a cluster, against a real
// server: a root file system with nothing else in it and that it cannot write to,
// a user id that nobody knows, no Podman, its secrets shown to it by root. It
// says the truth of what it should run and cannot.
func TestAgentAsPod(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("changes its root and its user, which root alone may")
	}
	p := start(t, dataDir(t), "--allow-psk")
	machineID := strings.Repeat("5", 32)
	machine, err := machineid.Name(machineID)
	if err != nil {
		t.Fatal(err)
	}
	enrolment, err := apiClient(t, p).Enrol(t.Context(), "pod-1", api.EnrolmentRequest{MachineID: machine})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for path := root; path != "/" && path != os.TempDir(); path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// file is of a Secret that is mounted: root's, and readable by the pod's group.
	file := func(name string, mode os.FileMode, content string) {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 0, podUser); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := json.Marshal(enrolment.SigningKeys)
	if err != nil {
		t.Fatal(err)
	}
	file("etc/machine-id", 0o444, machineID+"\n")
	file("etc/fleet-agent/psk", 0o440, string(enrolment.PSK))
	file("etc/fleet-agent/ca.pem", 0o440, enrolment.CAPEM)
	file("etc/fleet-agent/signing-keys.json", 0o440, string(keys))
	file("etc/fleet-agent/config.toml", 0o440, fmt.Sprintf(`device_id = "pod-1"
[nats]
urls = ["%s"]
ca_file = "/etc/fleet-agent/ca.pem"
[credentials]
type = "psk"
file = "/etc/fleet-agent/psk"
signing_keys_file = "/etc/fleet-agent/signing-keys.json"
[labels]
site = "lyon"
[podman]
enabled = false
`, strings.Join(enrolment.NATSURLs, `", "`)))
	volume := filepath.Join(root, "var/lib/fleet-agent")
	if err := os.MkdirAll(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(volume, 0, podUser); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(volume, 0o2770); err != nil { // as an emptyDir with an fsGroup is
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(root, "fleet-agent"), "./cmd/fleet-agent")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build fleet-agent: %v\n%s", err, out)
	}

	agent := exec.Command("/fleet-agent", "run")
	agent.Dir, agent.Env = "/", []string{}
	var log buffer
	agent.Stdout, agent.Stderr = &log, &log
	agent.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Setpgid: true, Credential: &syscall.Credential{Uid: podUser, Gid: 0, Groups: []uint32{podUser}}}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- agent.Wait() }()
	t.Cleanup(func() {
		_ = agent.Process.Kill()
		if t.Failed() {
			t.Logf("the agent's log:\n%s", log.String())
		}
	})

	objects := resources(t, p)
	if _, err := objects.Resource(deployments).Namespace("default").Create(t.Context(), hello(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deployment to have failed on it, with the reason", func(ctx context.Context) (bool, error) {
		select {
		case err := <-exited:
			return false, fmt.Errorf("the agent ended: %w", err)
		default:
		}
		got, err := objects.Resource(deployments).Namespace("default").Get(ctx, "hello", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		failed, _, _ := unstructured.NestedInt64(got.Object, "status", "aggregate", "failed")
		message, _, _ := unstructured.NestedString(got.Object, "status", "aggregate", "lastError", "message")
		return failed == 1 && strings.Contains(message, "podman is disabled"), nil
	})
	seen, err := apiClient(t, p).Device(t.Context(), "pod-1")
	if err != nil || !seen.Connected || seen.Info == nil || seen.State == nil {
		t.Errorf("the server knows of it %+v, %v", seen, err)
	}
	for _, name := range []string{"etc/fleet-agent", "etc", "."} {
		entries, err := os.ReadDir(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Errorf("the agent wrote %s outside of its volume", filepath.Join(name, e.Name()))
			}
		}
	}

	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("after SIGTERM: %v", err)
		}
	case <-time.After(stopDeadline):
		t.Errorf("it is still there %s after SIGTERM", stopDeadline)
	}
	p.stopCleanly()
}
