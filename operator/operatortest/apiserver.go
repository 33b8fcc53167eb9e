//go:build apiserver

// Package operatortest starts a real API server for the operator's tests: the
// built fleet-server in a process of its own.
package operatortest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	startTimeout = 90 * time.Second
	stopTimeout  = 30 * time.Second
)

// Main starts the API server, runs the package's tests, and ends it. Tests get
// its configuration from Config. Without the binary the tests are skipped.
func Main(m *testing.M) int {
	binary, err := findBinary()
	if err != nil {
		fmt.Fprintf(os.Stderr, "SKIPPED, all tests of this package: %v; build it with: make build\n", err)
		return 0
	}
	dir, err := os.MkdirTemp("", "fleet-api-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	stop, err := start(binary, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the API server:", err)
		return 1
	}
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := fence(ctx, shared); err != nil {
		fmt.Fprintln(os.Stderr, "keep the server's own operator out:", err)
		return 1
	}
	return m.Run()
}

var shared *rest.Config

// Config is a copy of the running server's configuration.
func Config(t testing.TB) *rest.Config {
	t.Helper()
	if shared == nil {
		t.Fatal("no API server: TestMain has to call operatortest.Main")
	}
	return asTester(shared)
}

func findBinary() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "..", "..", "bin", "fleet-server")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no fleet-server: %w", err)
	}
	return path, nil
}

func start(binary, dir string) (stop func(), err error) {
	output := &bytes.Buffer{}
	cmd := exec.Command(binary, "all", "--data-dir", dir)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	// The signal goes with the thread that started the process.
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // cmd.ProcessState tells how it ended
	}()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(stopTimeout):
			_ = cmd.Process.Kill()
		}
	}
	shared, err = awaitEndpoints(dir, cmd, ended)
	if err != nil {
		stop()
		return nil, fmt.Errorf("%w\n%s", err, output)
	}
	return stop, nil
}

func awaitEndpoints(dir string, cmd *exec.Cmd, ended <-chan struct{}) (*rest.Config, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		var e struct {
			Kubeconfig string `json:"kubeconfig"`
		}
		data, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
		if err == nil && json.Unmarshal(data, &e) == nil && e.Kubeconfig != "" {
			return clientcmd.BuildConfigFromFlags("", e.Kubeconfig)
		}
		select {
		case <-ended:
			return nil, fmt.Errorf("it ended: %s", cmd.ProcessState)
		case <-ctx.Done():
			return nil, fmt.Errorf("no endpoints.json after %s", startTimeout)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
