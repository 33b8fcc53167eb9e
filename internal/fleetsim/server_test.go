//go:build apiserver

package fleetsim_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

const startLimit = 90 * time.Second

// server is a control plane in a process of its own, which can be killed. It
// keeps its ports.
type server struct {
	*testing.T
	dir    string
	binary string
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	ended  chan struct{}
	facts  struct {
		Kubeconfig, NATSURL, APIURL, CAFile, AdminTokenFile, LogFile string
	}
}

func newServer(t *testing.T) *server {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	s := &server{T: t, dir: filepath.Join(t.TempDir(), "server"), binary: filepath.Join(filepath.Dir(here), "..", "..", "bin", "fleet-server")}
	if _, err := os.Stat(s.binary); err != nil {
		t.Skipf("no fleet-server: %v; build it with: make fleet-server", err)
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) launch() error {
	// What an interrupted run said is of another process.
	if err := os.Remove(s.endpoints()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.cmd = exec.Command(s.binary, "all", "--data-dir", s.dir, "--listen-address", "127.0.0.1", "--allow-psk")
	s.stderr = &bytes.Buffer{}
	s.cmd.Stderr = s.stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The signal goes with the thread that started the process; tests' threads stay.
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		defer close(ended)
		_ = cmd.Wait()
	}(s.cmd, s.ended)
	return nil
}

// start returns when the server serves.
func (s *server) start() error {
	if err := s.launch(); err != nil {
		return err
	}
	for end := time.Now().Add(startLimit); time.Now().Before(end); {
		data, err := os.ReadFile(s.endpoints())
		if err == nil && json.Unmarshal(data, &s.facts) == nil && s.facts.Kubeconfig != "" {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("the server ended: %s: %s", s.cmd.ProcessState, s.stderr)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("the server is not up within %s", startLimit)
}

// kill is kill -9.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

func (s *server) endpoints() string { return filepath.Join(s.dir, "endpoints.json") }

func (s *server) natsAddress() string {
	u, err := url.Parse(s.facts.NATSURL)
	if err != nil {
		s.Fatal(err)
	}
	return u.Host
}

func (s *server) api() *apiclient.Client {
	ca, err := os.ReadFile(s.facts.CAFile)
	if err != nil {
		s.Fatal(err)
	}
	token, err := os.ReadFile(s.facts.AdminTokenFile)
	if err != nil {
		s.Fatal(err)
	}
	c, err := apiclient.New(s.facts.APIURL, ca, string(bytes.TrimSpace(token)))
	if err != nil {
		s.Fatal(err)
	}
	return c
}

func (s *server) kube() client.Client {
	config, err := clientcmd.BuildConfigFromFlags("", s.facts.Kubeconfig)
	if err != nil {
		s.Fatal(err)
	}
	config.QPS = -1
	scheme := kruntime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		s.Fatal(err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// logTail is the end of the server's log.
func (s *server) logTail() string {
	data, err := os.ReadFile(s.facts.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-6000):])
}
