//go:build hosts

package e2e

import (
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
)

// TestOnboardBare onboards hosts that have nothing but sshd, as most do: the
// packages that it installs are all that a container needs.
func TestOnboardBare(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			h := testhost.Start(t, testhost.Options{Suite: suite, Hostname: "pi-a"})
			c := startControlPlane(t)
			reg := registry.Start(t, testhost.HarnessIP+":0")
			image := registry.PushApp(t, reg, "hello", "v1")
			c.onboard(t, h, "pi-a", "--insecure-registry", reg.Addr())
			if again := c.onboard(t, h, "pi-a", "--insecure-registry", reg.Addr()); again.Hosts[0].Changed != 0 {
				t.Errorf("the second onboarding changed something: %+v", again.Hosts[0].Steps)
			}
			c.fleetctl(t, "deploy", "hello", "--image", image, "--all-devices", "--port", "8080:8080", "--wait", "--timeout", "2m")
			eventually(t, 10*time.Second, "the page", pageSays(h.IP(), 8080, "v1"))
		})
	}
}
