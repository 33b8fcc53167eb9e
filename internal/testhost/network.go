package testhost

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bridge connects all hosts of the machine with its root namespace.
const bridge = "fleet-th"

func ensureBridge(ctx context.Context) error {
	if !linkExists(bridge) {
		return ip(ctx,
			"link add "+bridge+" type bridge",
			"addr add "+HarnessIP+"/24 dev "+bridge,
			"link set "+bridge+" up")
	}
	return nil
}

func removeBridge(ctx context.Context) error {
	if !linkExists(bridge) {
		return nil
	}
	return ip(ctx, "link del "+bridge)
}

// makeNetwork gives the slot a network namespace and a cable to the bridge.
// The namespace outlives reboots of the host.
func (s slot) makeNetwork(ctx context.Context) error {
	ns, veth := s.netns(), s.veth()
	return ip(ctx,
		"netns add "+ns,
		"link add "+veth+" type veth peer name host0 address "+s.mac()+" netns "+ns,
		"link set "+veth+" master "+bridge+" up",
		"-n "+ns+" link set lo up",
		"-n "+ns+" addr add "+s.ip()+"/24 dev host0",
		"-n "+ns+" link set host0 up",
		"-n "+ns+" route add default via "+HarnessIP)
}

// mac goes with the address: whoever knew the slot's last host would otherwise
// look for the next one in vain until its ARP entry expires, up to a minute.
func (s slot) mac() string { return fmt.Sprintf("02:00:0a:d5:00:%02x", int(s)+1) }

func (s slot) removeNetwork(ctx context.Context) error {
	var commands []string
	// Removing the namespace removes the cable too, but only some time later.
	if linkExists(s.veth()) {
		commands = append(commands, "link del "+s.veth())
	}
	if _, err := os.Stat(s.netnsPath()); err == nil {
		commands = append(commands, "netns del "+s.netns())
	}
	return ip(ctx, commands...)
}

func (s slot) netnsPath() string { return filepath.Join("/run/netns", s.netns()) }

func linkExists(name string) bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", name))
	return err == nil
}

// ip runs iproute2 commands, stopping at the first that fails.
func ip(ctx context.Context, commands ...string) error {
	for _, c := range commands {
		out, err := exec.CommandContext(ctx, "ip", strings.Fields(c)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
