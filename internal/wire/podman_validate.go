package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

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
	return errors.Join(append(errs, p.orderFaults()...)...)
}

// orderFaults finds dependencies on nothing, and cycles.
func (p *PodmanV0) orderFaults() []error {
	var errs []error
	on := map[string][]string{}
	for _, s := range p.Services {
		on[s.Name] = s.DependsOn
	}
	for i, s := range p.Services {
		for _, name := range s.DependsOn {
			if _, there := on[name]; !there {
				errs = append(errs, fmt.Errorf("services[%d]: dependsOn: there is no service %q", i, clip(name, 80)))
			}
		}
	}
	done := map[string]bool{}
	var visit func(name string, path []string) error
	visit = func(name string, path []string) error {
		if i := slices.Index(path, name); i >= 0 {
			return fmt.Errorf("dependsOn: services wait for each other: %q", append(path[i:], name))
		}
		if done[name] {
			return nil
		}
		path = append(slices.Clip(path), name)
		for _, next := range on[name] {
			if err := visit(next, path); err != nil {
				return err
			}
		}
		done[name] = true
		return nil
	}
	for _, s := range p.Services {
		if err := visit(s.Name, nil); err != nil {
			return append(errs, err) // one cycle is enough to see
		}
	}
	return errs
}
