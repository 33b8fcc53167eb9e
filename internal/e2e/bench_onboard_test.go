//go:build hosts

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
	"github.com/nationtech/fleetctl/internal/testhost"
)

// BenchmarkOnboardFirst times the first `fleetctl onboard` of a host that has
// its packages, from the start of the process until the control plane heard
// the device. Each round has a host of its own.
func BenchmarkOnboardFirst(b *testing.B) {
	testhost.Start(b, testhost.Options{}) // the server's address is there as long as a host is
	c := startControlPlane(b)
	var times []time.Duration
	for n := 1; b.Loop(); n++ {
		h, err := testhost.New(b.Context(), testhost.Options{Podman: true})
		if err != nil {
			b.Fatal(err)
		}
		times = append(times, elapsed(func() { c.onboard(b, h, fmt.Sprintf("pi-first-%d", n)) }))
		if err := h.Close(); err != nil {
			b.Fatal(err)
		}
	}
	report(b, times, "s-first")
}

// BenchmarkOnboardNothingToChange times `fleetctl onboard` of a host that is
// as it should be, as a whole process, in turns with Ansible: once with ten
// tasks, which do less than fleetctl, and once with all that fleetctl sees to.
// Run it with -benchtime 5x or more.
func BenchmarkOnboardNothingToChange(b *testing.B) {
	h, c := onboarded(b)
	play := newPlaybook(b, h)
	again := onboardArgs("pi@"+h.IP(), h.KeyFile(), h.KnownHostsFile())
	play.nothingToChange(b, allTasks) // opens the connection that later runs share
	c.nothingToChange(b, again)

	var ours, ten, all []time.Duration
	for b.Loop() {
		ours = append(ours, elapsed(func() { c.nothingToChange(b, again) }))
		ten = append(ten, elapsed(func() { play.nothingToChange(b, tenTasks) }))
		ours = append(ours, elapsed(func() { c.nothingToChange(b, again) }))
		all = append(all, elapsed(func() { play.nothingToChange(b, allTasks) }))
	}
	report(b, ours, "s-fleetctl")
	report(b, ten, "s-ansible-ten")
	report(b, all, "s-ansible-all")
	b.ReportMetric(median(ten).Seconds()/median(ours).Seconds(), "times-faster-than-ten")
	b.ReportMetric(median(all).Seconds()/median(ours).Seconds(), "times-faster-than-all")
}

// BenchmarkOnboardFarAway times the same through a network with 80 ms for a
// round trip. What connecting and logging in cost alone is taken off; starting
// the process and asking the control plane are not.
func BenchmarkOnboardFarAway(b *testing.B) {
	const rtt = 80 * time.Millisecond
	h, c := onboarded(b)
	p := sshtest.NewProxy(b, h.SSHAddr(), rtt)
	knownHosts := aliasHostKey(b, h, p.Addr)
	again := onboardArgs("pi@"+p.Addr, h.KeyFile(), knownHosts)
	target, err := sshhost.ParseTarget("pi@" + p.Addr)
	if err != nil {
		b.Fatal(err)
	}
	login := func() {
		far, err := sshhost.Dial(b.Context(), target, sshhost.Options{KnownHosts: []string{knownHosts}, IdentityFiles: []string{h.KeyFile()}})
		if err != nil {
			b.Fatal(err)
		}
		if err := far.Close(); err != nil {
			b.Fatal(err)
		}
	}
	c.nothingToChange(b, again)

	var logins, wholes []time.Duration
	var after []int // round trips of a run without those of logging in
	counted := func(do func()) (time.Duration, int) {
		before := p.RoundTrips()
		return elapsed(do), p.RoundTrips() - before
	}
	for b.Loop() {
		took, loginTrips := counted(login)
		logins = append(logins, took)
		took, trips := counted(func() { c.nothingToChange(b, again) })
		wholes = append(wholes, took)
		after = append(after, trips-loginTrips)
	}
	slices.Sort(after)
	b.ReportMetric((median(wholes) - median(logins)).Seconds(), "s-after-login-median")
	b.ReportMetric(float64(after[len(after)/2]), "round-trips-after-login-median")
	b.ReportMetric(float64(after[len(after)-1]), "round-trips-after-login-max")
	b.ReportMetric(median(wholes).Seconds(), "s-whole-median")
}

// onboarded is a host that is a device already.
func onboarded(b *testing.B) (*testhost.Host, *controlPlane) {
	b.Helper()
	h := testhost.Start(b, testhost.Options{Podman: true, Hostname: "pi-bench"})
	c := startControlPlane(b)
	c.onboard(b, h, "pi-bench")
	return h, c
}

func onboardArgs(target, key, knownHosts string) []string {
	return []string{"onboard", target, "--device-id", "pi-bench", "--ssh-key", key, "--known-hosts", knownHosts, "--yes"}
}

// nothingToChange runs fleetctl and insists that it changed nothing.
func (c *controlPlane) nothingToChange(b *testing.B, args []string) {
	b.Helper()
	if out := c.fleetctl(b, args...); !strings.Contains(out, ": 0 changed in ") {
		b.Fatalf("a run that should change nothing printed:\n%s", out)
	}
}

// aliasHostKey writes a known_hosts file with the host's key under addr.
func aliasHostKey(b *testing.B, h *testhost.Host, addr string) string {
	b.Helper()
	text, err := os.ReadFile(h.KnownHostsFile())
	if err != nil {
		b.Fatal(err)
	}
	_, key, ok := strings.Cut(strings.TrimSpace(string(text)), " ")
	if !ok {
		b.Fatalf("no host key in %q", text)
	}
	ip, port, _ := strings.Cut(addr, ":")
	path := filepath.Join(b.TempDir(), "known_hosts")
	if err := os.WriteFile(path, fmt.Appendf(nil, "[%s]:%s %s\n", ip, port, key), 0o600); err != nil {
		b.Fatal(err)
	}
	return path
}

func elapsed(do func()) time.Duration {
	began := time.Now()
	do()
	return time.Since(began)
}

func report(b *testing.B, times []time.Duration, unit string) {
	b.ReportMetric(median(times).Seconds(), unit+"-median")
	b.ReportMetric(slices.Max(times).Seconds(), unit+"-max")
}
