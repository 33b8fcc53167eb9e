package sshhost

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Target is a host as a person names it. Empty fields are filled from the
// SSH configuration, then from ssh's defaults.
type Target struct {
	User string
	Host string // name, alias of the SSH configuration, or IP address without brackets
	Port int    // 0 is unset
}

const targetHint = "write it as [user@]host[:port], an IPv6 address with a port as [2001:db8::1]:22"

// ParseTarget reads [user@]host[:port] or ssh://[user@]host[:port]. An IPv6
// address needs brackets only when a port follows.
func ParseTarget(s string) (Target, error) {
	bad := func(why string) (Target, error) {
		return Target{}, hint.WithCode(hint.New(fmt.Sprintf("target %q: %s", s, why), targetHint), hint.CodeUsage)
	}
	rest := strings.TrimSuffix(strings.TrimPrefix(s, "ssh://"), "/")
	var t Target
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		t.User, rest = rest[:i], rest[i+1:]
		if t.User == "" {
			return bad("the user before @ is empty")
		}
	}
	host, port := rest, ""
	switch {
	case strings.HasPrefix(rest, "["):
		end := strings.IndexByte(rest, ']')
		if end < 0 {
			return bad("[ without ]")
		}
		host, port = rest[1:end], rest[end+1:]
		if port != "" && port[0] != ':' {
			return bad("only :port may follow ]")
		}
		if net.ParseIP(strings.SplitN(host, "%", 2)[0]) == nil {
			return bad(fmt.Sprintf("%q is not an IP address", host))
		}
	case strings.Count(rest, ":") == 1:
		i := strings.IndexByte(rest, ':')
		host, port = rest[:i], rest[i:]
	case strings.Count(rest, ":") > 1 && net.ParseIP(strings.SplitN(rest, "%", 2)[0]) == nil:
		return bad(fmt.Sprintf("%q is neither host:port nor an IPv6 address", rest))
	}
	switch {
	case host == "":
		return bad("the host is empty")
	case strings.HasPrefix(host, "-"):
		return bad("a host does not begin with -")
	case strings.ContainsAny(host, " \t\r\n\x00'\"`$\\;&<>|(){}/@"):
		return bad("the host has a character that no host name has")
	case strings.HasPrefix(t.User, "-") || strings.ContainsAny(t.User, " \t\r\n\x00'\"`$\\;&<>|(){}"):
		return bad("the user has a character that no login name has")
	}
	if port != "" {
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil || n == 0 {
			return bad(fmt.Sprintf("port %q is not a number from 1 to 65535", port[1:]))
		}
		t.Port = int(n)
	}
	t.Host = host
	return t, nil
}

// String gives the target back as ParseTarget reads it.
func (t Target) String() string {
	s := t.Host
	if t.Port != 0 {
		s = net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
	}
	if t.User != "" {
		s = t.User + "@" + s
	}
	return s
}
