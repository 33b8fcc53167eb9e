//go:build hosts

package testhost_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
)

func TestBootAndSSH(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			testhost.Start(t, testhost.Options{Suite: suite}) // the template is warm from here on
			start := time.Now()
			h := testhost.Start(t, testhost.Options{Suite: suite, Hostname: "box"})
			if took := time.Since(start); took > 10*time.Second { // one, where nothing else works
				t.Errorf("booted in %s, want less than 10 s", took)
			} else {
				t.Logf("booted in %s", took)
			}
			for user, want := range map[string]string{"root": "0", testhost.User: "1000"} {
				if got := sshOutput(t, h, user, "id -u"); got != want {
					t.Errorf("ssh %s@host id -u = %q, want %q", user, got, want)
				}
			}
			if got := sshOutput(t, h, testhost.User, "sudo -n id -u; hostname; . /etc/os-release; echo $VERSION_CODENAME"); got != "0\nbox\n"+suite {
				t.Errorf("sudo, hostname and suite = %q", got)
			}
			if got := h.Sh(t, "systemctl is-system-running; systemctl --failed --no-legend"); got != "running" {
				t.Errorf("state of the system: %s", got)
			}
		})
	}
}

func TestRunKeepsStatusAndStreamsApart(t *testing.T) {
	h := testhost.Start(t, testhost.Options{})
	out, err := h.Run(t.Context(), "echo out; echo err >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if want := (testhost.Output{Stdout: "out\n", Stderr: "err\n", ExitCode: 3}); out != want {
		t.Errorf("got %+v, want %+v", out, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Run(ctx, "sleep 60"); err == nil {
		t.Error("a script that outlives its context gives no error")
	}
}

func TestPower(t *testing.T) {
	h := testhost.Start(t, testhost.Options{})
	boot := func() string {
		return h.Sh(t, "cat /proc/sys/kernel/random/uuid >/run/boot; systemctl show -P UserspaceTimestampMonotonic; stat -c %Z /run")
	}
	h.Sh(t, "echo kept >/root/file; touch /run/marker")
	first := boot()

	h.Reboot(t)
	if h.Sh(t, "test ! -e /run/marker && cat /root/file") != "kept" || boot() == first {
		t.Error("the host did not reboot, or lost its files")
	}
	h.Kill(t)
	if _, err := h.Run(t.Context(), "true"); err == nil {
		t.Error("a script ran on a host without power")
	}
	h.PowerOn(t)
	if h.Sh(t, "cat /root/file") != "kept" {
		t.Error("files were lost with the power")
	}
	h.PowerOff(t)
	h.PowerOn(t)
	if h.Sh(t, "cat /root/file") != "kept" {
		t.Error("files were lost by poweroff")
	}
}

func TestNetworkDownAndUp(t *testing.T) {
	h := testhost.Start(t, testhost.Options{})
	h.NetworkDown(t)
	if conn, err := net.DialTimeout("tcp", h.SSHAddr(), 300*time.Millisecond); err == nil {
		_ = conn.Close()
		t.Error("the host answers with its cable pulled")
	}
	h.NetworkUp(t)
	sshOutput(t, h, "root", "true")
}

func TestTwoHostsAreApartAndReachEachOther(t *testing.T) {
	a := testhost.Start(t, testhost.Options{Suite: "trixie"})
	b := testhost.Start(t, testhost.Options{Suite: "trixie"})
	if a.IP() == b.IP() {
		t.Fatalf("both have %s", a.IP())
	}
	if got := a.Sh(t, fmt.Sprintf("timeout 5 bash -c 'head -c 7 </dev/tcp/%s/22'", b.IP())); got != "SSH-2.0" {
		t.Errorf("a reads %q from b's sshd", got)
	}
	// A host that clears a slice must not touch the other's.
	b.Sh(t, "systemd-run --quiet --unit=victim --slice=user.slice sleep 600")
	a.Sh(t, "systemd-run --quiet --unit=bystander --slice=user.slice sleep 600; systemctl kill --signal=KILL user.slice; systemctl stop user.slice")
	if got := b.Sh(t, "systemctl is-active victim"); got != "active" {
		t.Errorf("b's unit is %s after a stopped its own slice", got)
	}
}

func TestPackageInstallThroughProxy(t *testing.T) {
	h := testhost.Start(t, testhost.Options{})
	h.Sh(t, "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install jq")
	if got := h.Sh(t, `echo '{"a":1}' | jq .a`); got != "1" {
		t.Errorf("jq says %q", got)
	}
	if out := h.Sh(t, `proxy=$(sed -n 's/.*"\(http.*\)".*/\1/p' /etc/apt/apt.conf.d/90testhost-proxy)
		curl -s -o /dev/null -w '%{http_code} ' -x "$proxy" http://example.invalid/
		curl -s -o /dev/null -w '%{http_code}' -x "$proxy" -X POST http://example.invalid/`); out != "403 405" {
		t.Errorf("the proxy answers %q to what is not apt's", out)
	}
}

// A lingering user's Podman runs an image from the test's registry, and the
// page is fetched from outside.
func TestRootlessPodmanServes(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			h := testhost.Start(t, testhost.Options{Suite: suite, Podman: true})
			reg := registry.Start(t, testhost.HarnessIP+":0")
			image := registry.PushApp(t, reg, "hello", "v1")
			h.Sh(t, "useradd --create-home app && loginctl enable-linger app && until systemctl is-active --quiet user@$(id -u app); do sleep 0.05; done")
			h.ShAs(t, "app", "systemctl --user enable --now podman.socket")
			h.ShAs(t, "app", "podman run --quiet --detach --tls-verify=false --publish 8080:8080 "+image)
			want := "version v1 on "
			if got := get(t, "http://"+net.JoinHostPort(h.IP(), "8080")); !strings.HasPrefix(got, want) {
				t.Errorf("from outside: %q, want %q…", got, want)
			}
			conn, err := h.Dial(t.Context(), "tcp", "127.0.0.1:8080")
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			t.Log(h.ShAs(t, "app", "podman info --format '{{.Host.CgroupManager}} {{.Host.CgroupsVersion}} {{.Store.GraphDriverName}} {{.Host.NetworkBackend}}'"))
		})
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
			}
			return strings.TrimSpace(string(body))
		}
		if ctx.Err() != nil {
			t.Fatalf("GET %s: %v", url, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func sshOutput(t *testing.T, h *testhost.Host, user, command string) string {
	t.Helper()
	key, err := os.ReadFile(h.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownhosts.New(h.KnownHostsFile())
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", h.SSHAddr(), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: known, Timeout: 10 * time.Second,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.CombinedOutput(command)
	if err != nil {
		t.Fatalf("ssh %s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}
