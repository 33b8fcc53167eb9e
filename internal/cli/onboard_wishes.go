package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/deviceconfig"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/onboard"
)

// hostWish is one host and what is wanted of it.
type hostWish struct {
	target string // "" is this machine
	onboard.Wish
}

func targetsOf(wishes []hostWish) (targets []string) {
	for _, w := range wishes {
		targets = append(targets, w.target)
	}
	return targets
}

// hostsFile is the format of -f.
type hostsFile struct {
	Labels map[string]string `json:"labels"` // of every host; a host's own win
	Hosts  []struct {
		Host     string            `json:"host"`
		DeviceID string            `json:"deviceId"`
		Labels   map[string]string `json:"labels"`
	} `json:"hosts"`
}

// wishes turns flags, arguments and file into a list of hosts. Every fault is
// in the error.
func (o *onboardOptions) wishes(f *Factory) ([]hostWish, error) {
	common, faults := o.commonWish(f)
	var wishes []hostWish
	switch {
	case o.file != "" && (len(o.targets) > 0 || o.local):
		return nil, usageError(errors.New("hosts come from -f, from arguments or from --local, not from several of them"), "see: fleetctl onboard --help")
	case o.file != "":
		list, err := readHostsFile(o.file)
		if err != nil {
			return nil, usageError(err, "see the format with: fleetctl onboard --help")
		}
		if o.deviceID != "" {
			faults = append(faults, errors.New("--device-id is for one host; in a file it is deviceId"))
		}
		for i, h := range list.Hosts {
			w := hostWish{target: h.Host, Wish: common}
			w.DeviceID = h.DeviceID
			w.Labels = merged(list.Labels, h.Labels, common.Labels)
			if h.Host == "" {
				faults = append(faults, fmt.Errorf("%s: hosts[%d]: host is missing", o.file, i))
			}
			if h.DeviceID != "" {
				faults = append(faults, inFile(o.file, i, wire.ValidateDeviceID(h.DeviceID)))
			}
			faults = append(faults, inFile(o.file, i, wire.ValidateLabels(w.Labels)))
			wishes = append(wishes, w)
		}
		if len(wishes) == 0 {
			faults = append(faults, fmt.Errorf("%s: hosts is empty", o.file))
		}
	default:
		targets, err := o.hostTargets()
		if err != nil {
			return nil, err
		}
		if len(targets) > 1 && o.deviceID != "" {
			faults = append(faults, errors.New("--device-id is for one host; list several with their ids in a file for -f"))
		}
		for _, t := range targets {
			w := hostWish{target: t, Wish: common}
			w.DeviceID = o.deviceID
			wishes = append(wishes, w)
		}
		if o.deviceID != "" {
			faults = append(faults, wire.ValidateDeviceID(o.deviceID))
		}
		faults = append(faults, wire.ValidateLabels(common.Labels))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, usageError(err, "see: fleetctl onboard --help")
	}
	return wishes, nil
}

// commonWish is what the flags say about every host.
func (o *onboardOptions) commonWish(f *Factory) (w onboard.Wish, faults []error) {
	w = onboard.Wish{
		Labels: map[string]string{}, NATSURLs: o.natsURLs, InsecureRegistries: o.insecureRegistries, MetricsListen: o.metricsListen,
		AgentVersion: f.Version, AgentBinary: agentBinaryFinder(o.agentBinary),
	}
	if err := deviceconfig.CheckMetricsListen(o.metricsListen); err != nil {
		faults = append(faults, fmt.Errorf("--metrics-listen: %w", err))
	}
	for _, l := range o.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			faults = append(faults, fmt.Errorf("--label %q is not KEY=VALUE", l))
		}
		w.Labels[key] = value
	}
	for _, e := range o.hostEntries {
		entry, err := onboard.ParseHostEntry(e)
		faults = append(faults, err)
		w.HostEntries = append(w.HostEntries, entry)
	}
	return w, faults
}

func readHostsFile(path string) (*hostsFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the list of hosts: %w", err)
	}
	var list hostsFile
	if err := yaml.UnmarshalStrict(data, &list); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &list, nil
}

func inFile(file string, index int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: hosts[%d]: %w", file, index, err)
}

func merged(all ...map[string]string) map[string]string {
	m := map[string]string{}
	for _, each := range all {
		maps.Copy(m, each)
	}
	return m
}
