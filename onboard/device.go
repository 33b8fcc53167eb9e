package onboard

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/deviceconfig"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Device is what a host is to become.
type Device struct {
	ID                 string
	Labels             map[string]string
	InsecureRegistries []string    // HOST[:PORT], spoken to in plain HTTP
	MetricsListen      string      // where a monitoring system on the device may ask; empty: nowhere
	HostEntries        []HostEntry // lines of /etc/hosts that we manage; none leaves the file alone
	AgentBinary        string      // local path, built for the host's architecture
	AgentVersion       string
	Enrolment          Enrolment

	keys keysPlan
}

// Enrolment is what the control plane gives to a machine that becomes a device.
type Enrolment struct {
	NATSURLs    []string
	CAPEM       string
	SigningKeys []byte // the pinned keys' file, as the agent reads it
	// Issuer gives the device its tokens; with none it has a PSK.
	Issuer Issuer
	PSK    Secret
	// Registered says that the id is this machine's already, and the sealing
	// key this device's.
	Registered bool
}

// Issuer is where a device gets its access tokens.
type Issuer = deviceconfig.Issuer

// Secret is text that must not be shown.
type Secret string

// String hides the secret from every format verb and from logs.
func (Secret) String() string { return "[redacted]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "[redacted]" }

// HostEntry is a name that the device resolves without DNS.
type HostEntry struct {
	Name string
	IP   netip.Addr
}

// ParseHostEntry reads NAME=IP.
func ParseHostEntry(s string) (HostEntry, error) {
	name, ip, ok := strings.Cut(s, "=")
	if !ok {
		return HostEntry{}, fmt.Errorf("host entry %q is not NAME=IP", s)
	}
	if !hostName.MatchString(name) || len(name) > 253 {
		return HostEntry{}, fmt.Errorf("host entry %q: %q is no host name", s, name)
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil || addr.Zone() != "" {
		return HostEntry{}, fmt.Errorf("host entry %q: %q is no IP address", s, ip)
	}
	return HostEntry{Name: strings.ToLower(name), IP: addr}, nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// version becomes the name of a directory and a word in a unit.
var version = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$`)

func (d *Device) validate() error {
	errs := []error{wire.ValidateDeviceID(d.ID), wire.ValidateLabels(d.Labels)}
	if !version.MatchString(d.AgentVersion) {
		errs = append(errs, fmt.Errorf("agent version %q cannot name a directory", d.AgentVersion))
	}
	if len(d.Enrolment.NATSURLs) == 0 {
		errs = append(errs, errors.New("the control plane named no NATS URL"))
	}
	if len(d.Enrolment.SigningKeys) == 0 {
		errs = append(errs, errors.New("the control plane gave no signing keys"))
	}
	if d.Enrolment.PSK == "" && (d.Enrolment.Issuer.URL == "" || d.Enrolment.Issuer.Project == "") {
		errs = append(errs, errors.New("the control plane gave neither an issuer nor a pre-shared key"))
	}
	return errors.Join(errs...)
}

// hostsLines is the managed block of /etc/hosts, the same for the same entries
// in any order.
func (d *Device) hostsLines() string {
	lines := make([]string, 0, len(d.HostEntries))
	for _, e := range d.HostEntries {
		lines = append(lines, e.IP.String()+"\t"+e.Name+"\n")
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "")
}
