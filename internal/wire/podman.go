package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ScorePodmanV0 is the Score type whose data is a PodmanV0.
const ScorePodmanV0 = "PodmanV0"

// DefaultStopTimeout is how long a container may take to stop after SIGTERM.
const DefaultStopTimeout = 5 * time.Minute

// PodmanV0 is a set of containers that belong together.
type PodmanV0 struct {
	Services []Service `json:"services"`
}

// Service is one container.
type Service struct {
	Name          string        `json:"name"`
	Image         string        `json:"image"`
	Ports         []string      `json:"ports,omitempty"` // "[IP:]8080:80[/tcp|/udp]"
	Env           []EnvVar      `json:"env,omitempty"`
	Volumes       []Volume      `json:"volumes,omitempty"`
	RestartPolicy RestartPolicy `json:"restartPolicy,omitempty"`
	StopTimeout   *Duration     `json:"stopTimeout,omitempty"`
}

// EnvVar is one environment variable of a container.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Volume is a directory or file of the device inside the container.
type Volume struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath"`
	ReadOnly      bool   `json:"readOnly,omitempty"`
}

// RestartPolicy is what Podman does when a container exits.
type RestartPolicy string

// The restart policies; the empty one means RestartUnlessStopped.
const (
	RestartNo            RestartPolicy = "no"
	RestartOnFailure     RestartPolicy = "on-failure"
	RestartAlways        RestartPolicy = "always"
	RestartUnlessStopped RestartPolicy = "unless-stopped"
)

// Or gives the policy, or the default when it is empty.
func (p RestartPolicy) Or() RestartPolicy {
	if p == "" {
		return RestartUnlessStopped
	}
	return p
}

// Duration is a time.Duration that is written like "1m30s" in JSON.
type Duration struct{ time.Duration }

// MarshalJSON writes the form that time.ParseDuration reads.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads a string for time.ParseDuration.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("duration must be a string like \"90s\": %w", err)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	d.Duration = v
	return nil
}

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

// DecodePodmanV0 decodes and validates a Score's data. Unknown fields are
// refused: dropping one in silence would run something else than was asked.
func DecodePodmanV0(data []byte) (*PodmanV0, error) {
	var p PodmanV0
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("decode %s: %w", ScorePodmanV0, err)
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return &p, nil
}

var (
	envName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	imageRef = regexp.MustCompile(`^[a-z0-9]+([._:/@-]+[A-Za-z0-9]+)*$`)
)

// Validate reports every fault at once.
func (p *PodmanV0) Validate() error {
	if len(p.Services) == 0 {
		return errors.New("services: at least one is needed")
	}
	var errs []error
	names := map[string]bool{}
	ports := map[string]string{}
	for i, s := range p.Services {
		at := fmt.Sprintf("services[%d]", i)
		if err := validateName("service name", s.Name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("%s: service name %q is used twice", at, clip(s.Name, 80)))
		}
		names[s.Name] = true
		for _, err := range s.faults() {
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
		for _, port := range s.Ports {
			parsed, err := ParsePort(port)
			if err != nil {
				continue // reported by faults
			}
			key := fmt.Sprintf("%s:%d/%s", parsed.HostIP, parsed.HostPort, parsed.Protocol)
			if other, taken := ports[key]; taken {
				errs = append(errs, fmt.Errorf("%s: host port of %q is already taken by service %q", at, port, other))
			}
			ports[key] = s.Name
		}
	}
	return errors.Join(errs...)
}

func (s *Service) faults() []error {
	var errs []error
	if !imageRef.MatchString(s.Image) || len(s.Image) > 512 {
		errs = append(errs, fmt.Errorf("image %q is no image reference", clip(s.Image, 80)))
	}
	for _, port := range s.Ports {
		if _, err := ParsePort(port); err != nil {
			errs = append(errs, err)
		}
	}
	for _, e := range s.Env {
		if !envName.MatchString(e.Name) {
			errs = append(errs, fmt.Errorf("env: %q is no variable name", clip(e.Name, 80)))
		}
		if strings.ContainsRune(e.Value, 0) {
			errs = append(errs, fmt.Errorf("env: the value of %s contains a NUL", e.Name))
		}
	}
	for _, v := range s.Volumes {
		for _, p := range []string{v.HostPath, v.ContainerPath} {
			if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsAny(p, ":\x00") {
				errs = append(errs, fmt.Errorf("volumes: %q is no clean absolute path (a colon is not allowed)", clip(p, 80)))
			}
		}
	}
	switch s.RestartPolicy.Or() {
	case RestartNo, RestartOnFailure, RestartAlways, RestartUnlessStopped:
	default:
		errs = append(errs, fmt.Errorf("restartPolicy %q is none of no, on-failure, always, unless-stopped", clip(string(s.RestartPolicy), 40)))
	}
	if s.StopTimeout != nil && (s.StopTimeout.Duration < 0 || s.StopTimeout.Duration > 24*time.Hour) {
		errs = append(errs, fmt.Errorf("stopTimeout %s is not between 0s and 24h", s.StopTimeout))
	}
	return errs
}
