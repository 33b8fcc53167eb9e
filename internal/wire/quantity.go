package wire

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// minMemory is what a container's own start takes, in bytes.
const minMemory = 6 << 20

var (
	cpus   = regexp.MustCompile(`^[0-9]{1,4}([.][0-9]{1,3})?$`)
	memory = regexp.MustCompile(`^[1-9][0-9]{0,14}(Ki|Mi|Gi)?$`)
)

// ParseCPUs reads "0.5" and gives thousandths of a processor.
func ParseCPUs(s string) (milli int64, err error) {
	v, err := strconv.ParseFloat(s, 64)
	if !cpus.MatchString(s) || err != nil || v < 0.01 {
		return 0, fmt.Errorf("%q is no number of processors, such as 0.5 or 2", clip(s, 40))
	}
	return int64(math.Round(v * 1000)), nil
}

// ParseBytes reads "128Mi": a number of bytes, or of Ki, Mi or Gi of them.
func ParseBytes(s string) (int64, error) {
	fail := func() (int64, error) {
		return 0, fmt.Errorf("%q is no amount of memory, such as 64Mi", clip(s, 40))
	}
	if !memory.MatchString(s) {
		return fail()
	}
	shift := 0
	for i, unit := range []string{"Ki", "Mi", "Gi"} {
		if cut, found := strings.CutSuffix(s, unit); found {
			s, shift = cut, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return fail()
	}
	return n << shift, nil
}

// HealthAddress is where the device reaches the port of the HTTP check; ok is
// false when it is not reachable.
func (s *Service) HealthAddress() (a netip.AddrPort, ok bool) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if s.HealthCheck == nil || s.HealthCheck.HTTP == nil || s.HealthCheck.HTTP.Port == 0 {
		return a, false
	}
	want := s.HealthCheck.HTTP.Port
	if s.NetworkMode == NetworkHost {
		return netip.AddrPortFrom(loopback, want), true
	}
	for _, text := range s.Ports {
		p, err := ParsePort(text)
		if err != nil || p.ContainerPort != want || p.Protocol != "tcp" {
			continue
		}
		if !p.HostIP.IsValid() || p.HostIP.IsUnspecified() {
			return netip.AddrPortFrom(loopback, p.HostPort), true
		}
		return netip.AddrPortFrom(p.HostIP, p.HostPort), true
	}
	return a, false
}
