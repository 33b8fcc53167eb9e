package allinone

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/server/internal/logging"
	"github.com/nationtech/fleetctl/server/internal/ports"
)

// Config is what a user chooses of a server.
type Config struct {
	DataDir       string
	ListenAddress string   // an address of this machine, or 0.0.0.0
	Advertise     []string // names and addresses that clients use; the first one goes into URLs
	KubePort      int      // 0: the port of the last start, at the first one any
	NATSPort      int
	APIPort       int
	IssuerPort    int
	StartTimeout  time.Duration
	AllowPSK      bool   // devices may log in with a pre-shared key
	Version       string // of this program
	Log           *logging.Log
}

const (
	kubePort = 6443 // what kube-apiserver uses
	natsPort = 4222 // what nats-server uses
	apiPort  = 7443
	idPort   = 8443
	maxPort  = 65535
)

func (c *Config) kubeRequest() ports.Request {
	return ports.Request{Name: "Kubernetes API", Flag: "kube-port", Wanted: c.KubePort, Preferred: kubePort}
}

func (c *Config) natsRequest() ports.Request {
	return ports.Request{Name: "NATS", Flag: "nats-port", Wanted: c.NATSPort, Preferred: natsPort}
}

func (c *Config) apiRequest() ports.Request {
	return ports.Request{Name: "HTTPS API", Flag: "api-port", Wanted: c.APIPort, Preferred: apiPort}
}

func (c *Config) issuerRequest() ports.Request {
	return ports.Request{Name: "issuer", Flag: "issuer-port", Wanted: c.IssuerPort, Preferred: idPort}
}

// Validate reports all faults at once.
func (c *Config) Validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("--data-dir is empty"))
	}
	if _, err := netip.ParseAddr(c.ListenAddress); err != nil {
		errs = append(errs, fmt.Errorf("--listen-address %q is not an IP address", c.ListenAddress))
	}
	for _, host := range c.Advertise {
		if !validHost(host) {
			errs = append(errs, fmt.Errorf("--advertise %q is neither a host name nor an IP address (it takes no port and no scheme)", host))
		}
	}
	for _, r := range []ports.Request{c.kubeRequest(), c.natsRequest(), c.apiRequest(), c.issuerRequest()} {
		if r.Wanted < 0 || r.Wanted > maxPort {
			errs = append(errs, fmt.Errorf("--%s %d is not a port", r.Flag, r.Wanted))
		}
	}
	if c.StartTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--start-timeout %s is not positive", c.StartTimeout))
	}
	if len(errs) == 0 {
		return nil
	}
	return hint.WithCode(hint.Wrap(errors.Join(errs...), "see: fleet-server all --help"), hint.CodeUsage)
}

// validHost is RFC 1123, or an address.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) {
			return false
		}
	}
	return true
}

// names says how this server is called.
type names struct {
	hosts  []string // in certificates
	public []string // where devices and laptops find it; never empty
	local  string   // where programs on this machine do
}

func (c *Config) names() (names, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return names{}, fmt.Errorf("find our host name: %w", err)
	}
	listen := netip.MustParseAddr(c.ListenAddress)
	n := names{hosts: []string{"localhost", "127.0.0.1", "::1"}, public: []string{listen.String()}, local: listen.String()}
	if listen.IsUnspecified() {
		n.public, n.local = []string{hostname}, "127.0.0.1"
	}
	if len(c.Advertise) > 0 {
		n.public = c.Advertise
	}
	for _, host := range slices.Concat(n.public, []string{n.local, hostname}) {
		if validHost(host) && !slices.Contains(n.hosts, host) {
			n.hosts = append(n.hosts, host)
		}
	}
	return n, nil
}
