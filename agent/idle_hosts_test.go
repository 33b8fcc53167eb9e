//go:build hosts

package agent_test

import (
	"flag"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

var idle = flag.Duration("soak.idle", 0, "how long an idle device is watched; 0 skips it")

// What an idle device costs: bytes of its connection, with TLS, TCP, IP and
// Ethernet, memory and processor time of the agent.
func TestIdleDevice(t *testing.T) {
	if *idle == 0 {
		t.Skip("by hand: -soak.idle=15m")
	}
	d := newDevice(t, "trixie")
	image := registry.PushApp(t, d.registry, "hello", "v1")
	d.fleet.deploy("web", 1, wire.Service{Name: "a", Image: image}, wire.Service{Name: "b", Image: image})
	d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
	// The connection's own counters: the interface also carries what the system
	// does by itself. Each segment has 14 bytes of Ethernet, 20 of IP and 32 of TCP.
	const headers = 66
	look := func() (bytes, ticks, rss int) {
		out := must(exec.CommandContext(t.Context(), "ss", "-tinH", "sport", "=", strconv.Itoa(d.fleet.port)).Output())(t)
		for _, field := range strings.Fields(string(out)) {
			name, value, _ := strings.Cut(field, ":")
			n, err := strconv.Atoi(value)
			switch {
			case err != nil:
			case name == "bytes_sent" || name == "bytes_received":
				bytes += n
			case name == "segs_in" || name == "segs_out":
				bytes += n * headers
			}
		}
		f := strings.Fields(d.Sh(t, `p=$(pidof fleet-agent); awk '{print $14+$15}' /proc/$p/stat; awk '/VmRSS/ {print $2}' /proc/$p/status`))
		return bytes, must(strconv.Atoi(f[0]))(t), must(strconv.Atoi(f[1]))(t)
	}
	began := time.Now()
	bytes, ticks, _ := look()
	time.Sleep(*idle)
	bytesAfter, ticksAfter, rss := look()
	seconds := time.Since(began).Seconds()
	rate := float64(bytesAfter-bytes) / seconds
	t.Logf("%.0f s: %d bytes, %.2f a second, %.2f MB in 30 days; processor %.3f %%; resident %d KiB",
		seconds, bytesAfter-bytes, rate, rate*30*86400/1e6, float64(ticksAfter-ticks)/seconds, rss)
}
