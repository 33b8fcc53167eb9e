package wire

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Port is a parsed entry of Service.Ports.
type Port struct {
	HostIP        netip.Addr // the zero Addr means every address
	HostPort      uint16
	ContainerPort uint16
	Protocol      string // "tcp" or "udp"
}

// ParsePort reads "[IP:]HOST:CONTAINER[/tcp|/udp]"; an IPv6 address is in
// brackets.
func ParsePort(s string) (Port, error) {
	fail := func(why string) (Port, error) {
		return Port{}, fmt.Errorf("port %q %s; the form is [IP:]HOST:CONTAINER[/tcp|/udp]", clip(s, 80), why)
	}
	p := Port{Protocol: "tcp"}
	rest, proto, found := strings.Cut(s, "/")
	if found {
		p.Protocol = proto
	}
	if p.Protocol != "tcp" && p.Protocol != "udp" {
		return fail("has an unknown protocol")
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 {
		return fail("has no host port")
	}
	host, container := rest[:i], rest[i+1:]
	if j := strings.LastIndexByte(host, ':'); j >= 0 {
		ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host[:j], "["), "]"))
		if err != nil {
			return fail("has no valid IP address before the host port")
		}
		p.HostIP, host = ip, host[j+1:]
	}
	var ok bool
	if p.HostPort, ok = portNumber(host); !ok {
		return fail("has no host port between 1 and 65535")
	}
	if p.ContainerPort, ok = portNumber(container); !ok {
		return fail("has no container port between 1 and 65535")
	}
	return p, nil
}

func portNumber(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0 && s[0] != '+'
}
