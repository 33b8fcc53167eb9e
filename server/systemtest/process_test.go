package systemtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	startDeadline = 90 * time.Second // generous: the machine may be busy
	stopDeadline  = 40 * time.Second
)

// binary builds fleet-server, once a run. The flags are the Makefile's, so that
// what `make build` compiled is used again.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fleet-server-test")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "fleet-server")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "../cmd/fleet-server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fleet-server: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// endpoints mirrors the endpoints.json that others rely on.
type endpoints struct {
	SchemaVersion    int    `json:"schemaVersion"`
	Kubeconfig       string `json:"kubeconfig"`
	KubernetesURL    string `json:"kubernetesURL"`
	NATSURL          string `json:"natsURL"`
	APIURL           string `json:"apiURL"`
	CAFile           string `json:"caFile"`
	AdminTokenFile   string `json:"adminTokenFile"`
	LogFile          string `json:"logFile"`
	MetricsTokenFile string `json:"metricsTokenFile"`
	PID              int    `json:"pid"`

	Issuer            string `json:"issuer"`
	CLIClientID       string `json:"cliClientID"`
	ProjectID         string `json:"projectID"`
	AdminPasswordFile string `json:"adminPasswordFile"`
}

// process is a fleet-server.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string
	stdout chan string // its lines
	stderr buffer
	exited chan struct{}
	ready  endpoints
}

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// dataDir names a directory that the server has to make.
func dataDir(t *testing.T) string { return filepath.Join(t.TempDir(), "data") }

// launch starts `fleet-server all` on dir without waiting for anything.
func launch(t *testing.T, dir string, env []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, dir: dir, stdout: make(chan string, 16), exited: make(chan struct{})}
	if _, err := os.Stat(filepath.Join(dir, "ports.json")); err != nil {
		args = append(ownPorts(t), args...) // a test's own choice comes last and counts
	}
	p.cmd = exec.Command(path, append([]string{"all", "-o", "json", "--data-dir", dir}, args...)...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.stdout <- lines.Text()
		}
		close(p.stdout)
		_ = p.cmd.Wait() // the code is read from ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("stderr of process %d:\n%s", p.cmd.Process.Pid, p.stderr.String())
		}
	})
	return p
}

// ownPorts chooses ports for the first start on a directory; later ones have to
// remember them. The default ones would be taken by whatever else runs on this
// machine, just between two starts.
func ownPorts(t *testing.T) []string {
	t.Helper()
	var flags []string
	for _, flag := range []string{"--kube-port", "--nats-port", "--api-port", "--issuer-port"} {
		for {
			port := randomPort()
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if errors.Is(err, syscall.EADDRINUSE) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			flags = append(flags, flag, fmt.Sprint(port))
			break
		}
	}
	return flags
}

func randomPort() int { return 20_000 + rand.IntN(10_000) } // below the ports of outgoing connections

// start starts `fleet-server all` on dir and waits until it is ready.
func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := launch(t, dir, nil, args...)
	p.awaitReady()
	return p
}

func (p *process) awaitReady() {
	p.t.Helper()
	select {
	case line, open := <-p.stdout:
		if !open {
			<-p.exited
			p.t.Fatalf("ended before it was ready, %s", p.cmd.ProcessState)
		}
		if err := json.Unmarshal([]byte(line), &p.ready); err != nil {
			p.t.Fatalf("decode %q: %v", line, err)
		}
	case <-time.After(startDeadline):
		p.t.Fatalf("not ready within %s", startDeadline)
	}
}

// stop sends a signal and gives the exit code.
func (p *process) stop(sig os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	return p.wait()
}

func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(stopDeadline):
		p.t.Fatalf("still there %s after it should have ended", stopDeadline)
		return -1
	}
}

func (p *process) stopCleanly() {
	p.t.Helper()
	if code := p.stop(syscall.SIGTERM); code != 0 {
		p.t.Fatalf("exit code %d after SIGTERM\n%s", code, p.stderr.String())
	}
}

// admin is the access that the kubeconfig gives.
func (p *process) admin() *rest.Config {
	p.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", p.ready.Kubeconfig)
	if err != nil {
		p.t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// leftSockets lists unix sockets of the whole machine whose name says they are dir's.
func leftSockets(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, dir) {
			left = append(left, strings.TrimSpace(line))
		}
	}
	return left
}
