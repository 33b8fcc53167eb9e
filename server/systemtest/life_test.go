package systemtest

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func client(t *testing.T, p *process) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(p.admin())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFreshStartAndCleanStop(t *testing.T) {
	dir := dataDir(t)
	begin := time.Now()
	p := start(t, dir)
	t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))

	if p.ready.PID != p.cmd.Process.Pid {
		t.Errorf("says its process id is %d, it is %d", p.ready.PID, p.cmd.Process.Pid)
	}
	written, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
	if err != nil {
		t.Fatal(err)
	}
	var onDisk endpoints
	if err := json.Unmarshal(written, &onDisk); err != nil || onDisk != p.ready {
		t.Errorf("endpoints.json has %s (%v), printed was %+v", written, err, p.ready)
	}
	for name, path := range map[string]string{"kubeconfig": p.ready.Kubeconfig, "CA": p.ready.CAFile, "admin token": p.ready.AdminTokenFile, "log": p.ready.LogFile} {
		if _, err := os.Stat(path); !filepath.IsAbs(path) || err != nil {
			t.Errorf("%s is at %q: %v", name, path, err)
		}
	}
	assertPrivate(t, dir)

	p.stopCleanly()
	if left := leftSockets(t, dir); len(left) > 0 {
		t.Errorf("sockets left behind: %q", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); err == nil {
		t.Error("endpoints.json says that a stopped server runs")
	}
	assertPrivate(t, dir)
	for line := range strings.Lines(p.stderr.String()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			t.Errorf("an uneventful life has a warning: %s", line)
		}
	}
}

// assertPrivate wants everything in dir to be accessible to its owner only.
func assertPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		// Sockets are reached through their directory, whose mode decides.
		if d.Type()&fs.ModeSocket == 0 && path != dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRestartKeepsDataAndAddresses(t *testing.T) {
	dir := dataDir(t)
	first := start(t, dir)
	kubeconfig, err := os.ReadFile(first.ready.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, first).CoreV1().Namespaces().Create(t.Context(), namespace("kept"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	first.stopCleanly()

	second := start(t, dir)
	if _, err := client(t, second).CoreV1().Namespaces().Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	again, err := os.ReadFile(second.ready.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(kubeconfig) {
		t.Error("the kubeconfig changed: copies of it no longer work")
	}
	want := first.ready
	want.PID = second.ready.PID
	if second.ready != want {
		t.Errorf("addresses changed from %+v to %+v", want, second.ready)
	}
	second.stopCleanly()
}

func TestKilledWhileWriting(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir)
	configMaps := client(t, p).CoreV1().ConfigMaps("default")
	acknowledged := make(chan string, 10_000)
	go func() {
		defer close(acknowledged)
		for i := range cap(acknowledged) {
			name := fmt.Sprintf("written-%d", i)
			if _, err := configMaps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
				return
			}
			acknowledged <- name
		}
	}()
	var names []string
	for name := range acknowledged {
		if names = append(names, name); len(names) == 50 {
			p.stop(syscall.SIGKILL)
		}
	}
	if len(names) < 50 {
		t.Fatalf("only %d writes before the first failed", len(names))
	}

	again := start(t, dir)
	list, err := client(t, again).CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, cm := range list.Items {
		there[cm.Name] = true
	}
	for _, name := range names {
		if !there[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	again.stopCleanly()
}

func TestInterruptedStartConverges(t *testing.T) {
	dir := dataDir(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		// Where a start is interrupted is the point here, hence times, not events.
		for _, after := range []time.Duration{30, 120, 400, 900} {
			p := launch(t, dir, nil)
			select {
			case <-time.After(after * time.Millisecond):
			case <-p.exited:
				t.Fatalf("ended by itself, %s", p.cmd.ProcessState)
			}
			// -1 is being ended by the signal itself, before there is a handler.
			if code := p.stop(sig); code != 130 && code != 0 && code != -1 {
				t.Errorf("exit code %d when interrupted after %d ms", code, after)
			}
			if left := leftSockets(t, dir); len(left) > 0 {
				t.Errorf("sockets left behind by %s after %d ms: %q", sig, after, left)
			}
		}
	}
	p := start(t, dir)
	if _, err := client(t, p).CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	p.stopCleanly()
}

func TestSecondStartIsRefused(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir)
	second := launch(t, dir, nil)
	if code := second.wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	pid := fmt.Sprint(p.ready.PID)
	if text := second.stderr.String(); !strings.Contains(text, "process "+pid) || !strings.Contains(text, "hint: ") {
		t.Errorf("the refusal does not name process %s:\n%s", pid, text)
	}
	if _, err := client(t, p).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("the first one suffered: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); err != nil {
		t.Errorf("the first one's endpoints are gone: %v", err)
	}
	p.stopCleanly()
}

func TestStartThatTakesTooLongSaysWhere(t *testing.T) {
	dir := dataDir(t)
	p := launch(t, dir, nil, "--start-timeout", "700ms") // the API server takes longer on any machine, what is before it on none
	if code := p.wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	text := p.stderr.String()
	for _, want := range []string{"error: start Kubernetes API", "not up within 700ms", "last log lines:\n  time=", "hint: see " + dir} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if left := leftSockets(t, dir); len(left) > 0 {
		t.Errorf("sockets left behind: %q", left)
	}
	start(t, dir).stopCleanly()
}

func TestPortThatIsTakenIsNamed(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir)
	p.stopCleanly()
	u, err := url.Parse(p.ready.KubernetesURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	blocked := launch(t, dir, nil)
	if code := blocked.wait(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if text := blocked.stderr.String(); !strings.Contains(text, "port "+u.Port()+" of Kubernetes API is taken") || !strings.Contains(text, "--kube-port") {
		t.Errorf("neither port nor flag in:\n%s", text)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, dir).stopCleanly()
}

// Two servers on one machine do not have to be told about each other.
func TestPortsAreChosenWhenNoneAreGiven(t *testing.T) {
	var p [2]*process
	seen := map[string]bool{}
	for i := range p {
		p[i] = start(t, dataDir(t), "--kube-port", "0", "--nats-port", "0", "--api-port", "0", "--issuer-port", "0")
		for _, u := range []string{p[i].ready.KubernetesURL, p[i].ready.NATSURL, p[i].ready.APIURL, p[i].ready.Issuer} {
			if seen[u] {
				t.Errorf("two at %s", u)
			}
			seen[u] = true
		}
	}
	p[0].stopCleanly()
	p[1].stopCleanly()
}

// A unix socket's name holds about 100 characters; a data directory's may have
// more.
func TestLongDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 20), strings.Repeat("name", 20))
	p := start(t, dir)
	if _, err := client(t, p).CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
	p.stopCleanly()
	start(t, dir).stopCleanly()
}

func TestTellsSystemdWhenReady(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	dir := dataDir(t)
	p := launch(t, dir, []string{"NOTIFY_SOCKET=" + socket})
	if err := conn.SetReadDeadline(time.Now().Add(startDeadline)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 256)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(buf[:n])); got != "READY=1" {
		t.Errorf("told systemd %q", got)
	}
	// The API server inside has a READY of its own, which comes earlier.
	if _, err := os.Stat(filepath.Join(dir, "endpoints.json")); err != nil {
		t.Errorf("told systemd too early: %v", err)
	}
	p.awaitReady()
	p.stopCleanly()
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}
