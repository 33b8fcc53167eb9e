//go:build hosts || vm

// Package e2e runs the whole thread on real parts: the fleet-server, fleetctl
// and fleet-agent that `make build` made, throw-away systemd hosts, a registry.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/testhost"
	fleet "github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// program is the path of a program that `make build` made.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run: make build", err)
	}
	return path
}

// controlPlane is a running `fleet-server all`.
type controlPlane struct {
	dir    string
	listen string // the address in reach of devices
	cmd    *exec.Cmd
	logs   *os.File
	// Client is the Kubernetes API as its first administrator.
	client.Client
	configDir string
}

// startControlPlane starts a fleet-server within reach of throw-away hosts.
func startControlPlane(t testing.TB) *controlPlane {
	t.Helper()
	return startControlPlaneAt(t, testhost.HarnessIP)
}

// startControlPlaneAt starts a fleet-server at an address, and signs in to it.
func startControlPlaneAt(t testing.TB, listen string) *controlPlane {
	t.Helper()
	c := &controlPlane{dir: filepath.Join(t.TempDir(), "server"), listen: listen, configDir: t.TempDir()}
	c.start(t)
	t.Cleanup(func() {
		c.stop(t, syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the last of the server's log:\n%s", c.tail())
		}
	})
	var endpoints struct{ Kubeconfig string }
	data, err := os.ReadFile(filepath.Join(c.dir, "endpoints.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &endpoints); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", endpoints.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(fleet.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	if c.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	c.signIn(t)
	return c
}

// start runs the server and returns the time until it was ready.
func (c *controlPlane) start(t testing.TB) time.Duration {
	t.Helper()
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.logs, err = os.OpenFile(filepath.Join(filepath.Dir(c.dir), "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	c.cmd = exec.Command(program(t, "fleet-server"), "all", "--data-dir", c.dir, "--listen-address", c.listen)
	// The server's own end of "ready": the descriptor of sd_notify(3).
	ready := listenNotify(t, c.cmd)
	c.cmd.Stdout, c.cmd.Stderr = c.logs, c.logs
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := ready(time.Minute); err != nil {
		t.Fatalf("fleet-server did not become ready: %v\n%s", err, c.tail())
	}
	return time.Since(began)
}

// stop ends the server with the signal and waits for it.
func (c *controlPlane) stop(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if c.cmd == nil {
		return
	}
	_ = c.cmd.Process.Signal(signal)
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		if signal == syscall.SIGTERM && err != nil {
			t.Errorf("fleet-server did not stop cleanly: %v\n%s", err, c.tail())
		}
	case <-time.After(30 * time.Second):
		_ = c.cmd.Process.Kill()
		t.Errorf("fleet-server did not stop in 30 s: %v\n%s", <-done, c.tail())
	}
	_ = c.logs.Close()
	c.cmd = nil
}

func (c *controlPlane) tail() string {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(c.dir), "server.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// fleetctl runs a command as an operator would and returns its stdout.
func (c *controlPlane) fleetctl(t testing.TB, args ...string) string {
	t.Helper()
	out, stderr, code := c.tryFleetctl(t, args...)
	if code != 0 {
		t.Fatalf("fleetctl %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, stderr)
	}
	return out
}

func (c *controlPlane) tryFleetctl(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Minute) // cleaning up runs commands too
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, "fleetctl"), args...)
	cmd.Env = c.env()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// onboardResult is what `fleetctl onboard -o json` promises to scripts.
type onboardResult struct {
	SchemaVersion int
	Hosts         []struct {
		Host, DeviceID, Error string
		Changed               int
		Steps                 []struct {
			ID      string
			Changed bool
			Diff    string
		}
	}
}

// onboard makes the host a device and returns what changed.
func (c *controlPlane) onboard(t testing.TB, h *testhost.Host, id string, more ...string) onboardResult {
	t.Helper()
	args := append([]string{"onboard", "pi@" + h.IP(), "--device-id", id, "--ssh-key", h.KeyFile(),
		"--known-hosts", h.KnownHostsFile(), "--yes", "-o", "json"}, more...)
	var result onboardResult
	out := c.fleetctl(t, args...)
	if err := json.Unmarshal([]byte(out), &result); err != nil || len(result.Hosts) != 1 {
		t.Fatalf("fleetctl onboard printed no result (%v):\n%s", err, out)
	}
	return result
}

// eventually asks until check gives no error, for at most the given time.
func eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// page fetches the demo app's page.
func page(ip string, port int) (string, error) {
	response, err := (&http.Client{Timeout: 2 * time.Second}).Get(fmt.Sprintf("http://%s:%d/", ip, port))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", response.StatusCode, body)
	}
	return string(body), err
}

// pageSays checks that the app answers and names this version.
func pageSays(ip string, port int, version string) func() error {
	return func() error {
		body, err := page(ip, port)
		if err == nil && !strings.Contains(body, version) {
			err = fmt.Errorf("the page does not say %q: %s", version, body)
		}
		return err
	}
}

// containers lists what Podman runs for the agent, "name image-id" a line.
func containers(t testing.TB, h *testhost.Host) string {
	t.Helper()
	return strings.TrimSpace(h.Sh(t, `cd /; runuser -u fleet-agent -- env XDG_RUNTIME_DIR=/run/user/$(id -u fleet-agent) podman ps -a --format '{{.Names}} {{.ID}}' --sort names`))
}

// fetch is a page of the demo app, and its status.
func fetch(client *http.Client, ip, path string) (int, string) {
	resp, err := client.Get("http://" + ip + ":8080" + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, body.String()
}

// says checks that a page of the demo app has a text.
func says(client *http.Client, ip, path, want string) func() error {
	return func() error {
		if status, body := fetch(client, ip, path); status != http.StatusOK || !strings.Contains(body, want) {
			return fmt.Errorf("status %d, and not what was asked for", status)
		}
		return nil
	}
}

// aggregate checks a Deployment's counts.
func (c *controlPlane) aggregate(ctx context.Context, name string, succeeded, matched int) error {
	var d fleet.Deployment
	if err := c.Get(ctx, client.ObjectKey{Namespace: "default", Name: name}, &d); err != nil {
		return err
	}
	if got := d.Status.Aggregate; int(got.Succeeded) != succeeded || int(got.MatchedDeviceCount) != matched {
		return fmt.Errorf("aggregate is %+v, wanted %d of %d", got, succeeded, matched)
	}
	return nil
}
