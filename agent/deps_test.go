package agent_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The agent is small because of what it does not import.
func TestAgentPullsInNothingHeavy(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../cmd/fleet-agent").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, forbidden := range []struct{ prefix, why string }{
		{"k8s.io/", "the device knows nothing of Kubernetes"},
		{"sigs.k8s.io/", "the device knows nothing of Kubernetes"},
		{"github.com/spf13/", "three subcommands need no framework"},
		{"golang.org/x/crypto/ssh", "the device is reached by SSH, it reaches nobody"},
		{"libvirt.org/", "cgo, and for laptops"},
		{"github.com/containers/", "24 MB; the API is small"},
		{"github.com/nats-io/nats.go/jetstream", "a device has no JetStream"},
		{"github.com/nats-io/nats-server", "for the control plane"},
		{"github.com/nationtech/fleetctl/operator", "agent and operator share internal/wire only"},
		{"github.com/nationtech/fleetctl/onboard", "agent and onboard share internal/wire only"},
		{"github.com/nationtech/fleetctl/hostcfg", "onboarding changes the host, the agent does not"},
	} {
		for _, pkg := range strings.Fields(string(out)) {
			if strings.HasPrefix(pkg, forbidden.prefix) {
				t.Errorf("imports %s: %s", pkg, forbidden.why)
			}
		}
	}
}
