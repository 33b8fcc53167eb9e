//go:build hosts

package agent_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

const agentUser = "fleet-agent"

// device is a throw-away host that runs the real agent under systemd, with
// rootless Podman, as onboarding sets it up.
type device struct {
	*testhost.Host
	t        *testing.T
	fleet    *fleet
	registry *registry.Server
}

const unit = `[Unit]
After=network.target
StartLimitIntervalSec=0
[Service]
Type=notify
User=fleet-agent
ExecStart=/usr/local/bin/fleet-agent run
Restart=always
RestartSec=1
WatchdogSec=60
RuntimeDirectory=fleet-agent
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes
[Install]
WantedBy=multi-user.target
`

// newDevice starts a host and its control plane, and waits for the first
// report.
func newDevice(t *testing.T, suite string) *device {
	t.Helper()
	return newDeviceOf(t, suite, nil)
}

// newDeviceOf is one with access tokens of an issuer, unless tokens is nil.
func newDeviceOf(t *testing.T, suite string, tokens *issuertest.Options) *device {
	t.Helper()
	h := testhost.Start(t, testhost.Options{Suite: suite, Podman: true, Hostname: deviceID})
	var issuer *issuertest.Issuer
	if tokens != nil {
		issuer = issuertest.StartWith(t, *tokens)
	}
	d := &device{Host: h, t: t, fleet: newFleetOf(t, testhost.HarnessIP, issuer), registry: registry.Start(t, testhost.HarnessIP+":0")}
	d.build()
	d.Sh(t, `useradd --system --create-home --home-dir /var/lib/fleet-agent --shell /usr/sbin/nologin fleet-agent
		usermod --add-subuids 300000-365535 --add-subgids 300000-365535 fleet-agent
		loginctl enable-linger fleet-agent && systemctl start user@$(id -u fleet-agent)
		mkdir -p /etc/fleet-agent && chown fleet-agent: /etc/fleet-agent`)
	d.write("/etc/systemd/system/fleet-agent.service", unit, 0o644)
	d.write("/etc/fleet-agent/ca.pem", string(d.fleet.ca.PEM()), 0o644)
	d.writeKeys()
	d.write("/etc/fleet-agent/config.toml", fmt.Sprintf(`
device_id = %q
log_level = "debug"
[nats]
urls = [%q]
ca_file = "/etc/fleet-agent/ca.pem"
[labels]
"topology.example.com/site" = "lyon"
[podman]
insecure_registries = [%q]
[credentials]
signing_keys_file = "/etc/fleet-agent/signing-keys.json"
`, deviceID, d.fleet.url(), d.registry.Addr())+d.credentials(issuer), 0o644)
	d.Sh(t, "chown fleet-agent: /etc/fleet-agent/*")
	d.user(`mkdir -p ~/.config/containers && printf '[engine]\nevents_logger = "file"\n' > ~/.config/containers/containers.conf`) // as onboarding does
	d.user("systemctl --user enable --now podman.socket")
	d.Sh(t, "systemctl daemon-reload && systemctl enable --now fleet-agent")
	t.Cleanup(func() {
		if t.Failed() {
			out, err := h.Run(context.WithoutCancel(t.Context()), "journalctl -u fleet-agent --no-pager -o cat | tail -60")
			t.Logf("the agent's log (%v):\n%s", err, out.Stdout)
		}
	})
	d.fleet.await("first report", func(s wire.DeviceState) bool { return s.Device == deviceID })
	return d
}

// credentials puts what the device logs in with onto it, and gives the lines of
// the configuration that say so.
func (d *device) credentials(issuer *issuertest.Issuer) string {
	d.t.Helper()
	if issuer == nil {
		d.write("/etc/fleet-agent/psk", callout.PSK(d.fleet.psk, deviceID), 0o400)
		return "type = \"psk\"\nfile = \"/etc/fleet-agent/psk\"\n"
	}
	key := must(os.ReadFile(issuer.Machine("device-"+deviceID, role.Device)))(d.t)
	d.write(devicekey.IdentityFile, string(key), 0o400)
	d.write("/etc/fleet-agent/issuer.pem", string(issuer.CA.PEM()), 0o644)
	return fmt.Sprintf("type = \"oidc\"\nfile = %q\nissuer = %q\nproject = %q\nca_file = \"/etc/fleet-agent/issuer.pem\"\n",
		devicekey.IdentityFile, issuer.URL, issuer.ProjectID)
}

// build compiles the agent as a release does, straight into the host.
func (d *device) build() {
	d.t.Helper()
	output := filepath.Join(d.Root(), "usr/local/bin/fleet-agent")
	cmd := exec.CommandContext(d.t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w -X main.version=test", "-o", output, "../cmd/fleet-agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("build the agent: %v\n%s", err, out)
	}
}

func (d *device) writeKeys() {
	d.t.Helper()
	pinned := wire.PinnedKeys{SchemaVersion: 1}
	pinned.Keys = append(pinned.Keys, d.fleet.key.Public().(ed25519.PublicKey))
	d.write("/etc/fleet-agent/signing-keys.json", string(must(json.Marshal(pinned))(d.t)), 0o400)
}

func (d *device) write(path, content string, mode os.FileMode) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.Root(), path), []byte(content), mode); err != nil {
		d.t.Fatal(err)
	}
}

// user runs a script as the agent's user, podman included.
func (d *device) user(script string) string {
	d.t.Helper()
	return d.ShAs(d.t, agentUser, script)
}

// rebootOffline takes the cable out and reboots. It returns when the host is
// at work again, still without a network.
func (d *device) rebootOffline() {
	d.t.Helper()
	before := d.look("cat /proc/sys/kernel/random/boot_id")
	d.NetworkDown(d.t)
	d.look("systemctl --no-block reboot")
	d.until("the host is up again", func() bool {
		now := d.look("cat /proc/sys/kernel/random/boot_id")
		return now != "" && now != before
	})
}

// look is Sh on a host that may be going down: what does not answer soon, or not
// well, gives nothing. A shell that outlives its host would keep it from coming back.
func (d *device) look(script string) string {
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
	defer cancel()
	out, err := d.Run(ctx, script)
	if err != nil || out.ExitCode != 0 {
		return ""
	}
	return strings.TrimSpace(out.Stdout)
}

// works says whether the agent does, which it may do only after what it needs.
func (d *device) works() bool { return d.look("systemctl is-active fleet-agent") == "active" }

// container gives the id of a service's container, or "" without one.
func (d *device) container(name string) string {
	d.t.Helper()
	return d.user("podman ps -aq --no-trunc --filter name='^" + name + "$'")
}

// page fetches a page of a container, as a neighbour of the device would, once
// the program in it listens.
func (d *device) page(port int, path string) (body string) {
	d.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	d.until(fmt.Sprintf("a page on port %d", port), func() bool {
		resp, err := client.Get(fmt.Sprintf("http://%s:%d%s", d.IP(), port, path))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		body = string(data)
		return err == nil
	})
	return body
}

// until repeats a look at the host that no event announces.
func (d *device) until(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(2 * patience); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s: not within %s", what, 2*patience)
		}
	}
}

func lines(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	return strings.Split(strings.TrimSpace(s), "\n")
}
