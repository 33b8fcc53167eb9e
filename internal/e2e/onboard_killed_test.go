//go:build hosts

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg/hosttest"
	"github.com/nationtech/fleetctl/internal/testhost"
)

var (
	killSeed = flag.Uint64("kill.seed", uint64(time.Now().UnixNano()), "of the places where onboarding is killed")
	kills    = flag.Int("kill.count", 4, "how many times the host's side is killed, and the laptop's; 0: the host's before each command")
)

// TestOnboardKilled loses what onboards a real host with kill -9, on the host
// before a command that changes something, and on the laptop at any moment.
// Running it again does the rest, and leaves nothing of the first run.
func TestOnboardKilled(t *testing.T) {
	h := testhost.Start(t, testhost.Options{Podman: true, Hostname: "pi-k"})
	c := startControlPlane(t)
	reach := []string{"pi@" + h.IP(), "--ssh-key", h.KeyFile(), "--known-hosts", h.KnownHostsFile(), "--yes"}
	onboard, offboard := append([]string{"onboard"}, reach...), append([]string{"offboard"}, reach...)
	t.Logf("again with: -kill.seed %d", *killSeed)
	random := rand.New(rand.NewPCG(*killSeed, 0))

	k := killer{t, h}
	k.arm(1 << 30)
	began := time.Now()
	c.fleetctl(t, onboard...)
	whole, total := time.Since(began), k.disarm()
	if total < 20 {
		t.Fatalf("onboarding ran only %d commands that change something", total)
	}

	converges := func(t *testing.T) {
		t.Helper()
		c.fleetctl(t, onboard...)
		if again := c.onboard(t, h, "pi-k"); again.Hosts[0].Changed != 0 {
			t.Errorf("changed once more: %+v", again.Hosts[0].Steps)
		}
		if stray := h.Sh(t, `find / -xdev -name '.fleetctl*' -o -xdev -name '*.fleetctl-*'`); stray != "" {
			t.Errorf("left behind: %s", stray)
		}
	}
	places := random.Perm(total)
	if *kills > 0 {
		places = places[:*kills]
	}
	for _, place := range places {
		t.Run(fmt.Sprintf("host-%d-of-%d", place+1, total), func(t *testing.T) {
			c.fleetctl(t, offboard...)
			k.arm(place + 1)
			_, stderr, code := c.tryFleetctl(t, onboard...)
			if ran := k.disarm(); ran > place && code == 0 {
				t.Errorf("the root shell was killed, and fleetctl says that all went well:\n%s", stderr)
			}
			converges(t)
		})
	}
	for range *kills {
		after := time.Duration(random.Int64N(int64(whole)))
		t.Run("laptop-after-"+after.Round(time.Millisecond).String(), func(t *testing.T) {
			c.fleetctl(t, offboard...)
			cmd := c.command(t, onboard...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			kill := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			var exit *exec.ExitError
			if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			kill.Stop()
			converges(t)
		})
	}
}

// killer puts hosttest's shims on a real host.
type killer struct {
	t *testing.T
	h *testhost.Host
}

// arm makes the host lose its root shell before the nth command that changes
// something.
func (k killer) arm(n int) {
	k.t.Helper()
	script := "set -e\ncat >/run/shim <<'END'\n" + hosttest.KillShim + "END\nfor c in " + strings.Join(hosttest.Shimmed(), " ") +
		"; do install -m 0755 /run/shim /usr/local/sbin/$c; done\necho " + strconv.Itoa(n) + " >/run/kill-at; echo 0 >/run/kill-count"
	k.h.Sh(k.t, script)
}

// disarm takes the shims away and tells how many commands they saw.
func (k killer) disarm() int {
	k.t.Helper()
	out := k.h.Sh(k.t, "read -r n </run/kill-count; cd /usr/local/sbin && /bin/rm -f /run/kill-count "+strings.Join(hosttest.Shimmed(), " ")+" && echo $n")
	n, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		k.t.Fatal(err)
	}
	return n
}
