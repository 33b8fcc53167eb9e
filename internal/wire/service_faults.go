package wire

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	envName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	imageRef  = regexp.MustCompile(`^[a-z0-9]+([._:/@-]+[A-Za-z0-9]+)*$`)
	userName  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)
	labelKey  = regexp.MustCompile(`^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$`)
	device    = regexp.MustCompile(`^/dev(/[A-Za-z0-9._-]+)+(:/dev(/[A-Za-z0-9._-]+)+)?(:r?w?m?)?$`)
	objectKey = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	object    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	httpPath  = regexp.MustCompile(`^/[!-~]*$`)
)

// ReservedLabelPrefix begins the labels that the agent itself puts on
// containers.
const ReservedLabelPrefix = "fleet.nationtech.io/"

const (
	maxStopTimeout = 24 * time.Hour
	minInterval    = time.Second
	maxInterval    = time.Hour
	maxStartPeriod = time.Hour
	maxRetries     = 100
)

func (s *Service) faults() []error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !imageRef.MatchString(s.Image) || len(s.Image) > 512 {
		fault("image %q is no image reference", clip(s.Image, 80))
	}
	for _, port := range s.Ports {
		if _, err := ParsePort(port); err != nil {
			errs = append(errs, err)
		}
	}
	switch s.RestartPolicy.Or() {
	case RestartNo, RestartOnFailure, RestartAlways, RestartUnlessStopped:
	default:
		fault("restartPolicy %q is none of no, on-failure, always, unless-stopped", clip(string(s.RestartPolicy), 40))
	}
	errs = append(errs, s.StopTimeout.faults("stopTimeout", 0, maxStopTimeout)...)
	if s.User != "" && !userName.MatchString(s.User) {
		fault("user %q is no user[:group]", clip(s.User, 80))
	}
	if s.WorkingDir != "" {
		errs = append(errs, pathFaults("workingDir", s.WorkingDir)...)
	}
	for key, value := range s.Labels {
		switch {
		case !labelKey.MatchString(key) || len(key) > 253 || len(value) > 4096:
			fault("labels: %q is no label", clip(key, 80))
		case strings.HasPrefix(key, ReservedLabelPrefix):
			fault("labels: %q: %s is reserved", clip(key, 80), ReservedLabelPrefix)
		}
	}
	for _, word := range slices.Concat(s.Entrypoint, s.Command) {
		if strings.ContainsRune(word, 0) {
			fault("entrypoint and command must not contain a NUL")
		}
	}
	if len(s.Entrypoint) > 0 && s.Entrypoint[0] == "" {
		fault("entrypoint: the first word is empty")
	}
	for _, d := range s.Devices {
		if !device.MatchString(d) || strings.Contains(d, "/.") {
			fault("devices: %q is not /dev/X[:/dev/Y][:rwm]", clip(d, 80))
		}
	}
	errs = append(errs, s.Limits.faults()...)
	errs = append(errs, s.networkFaults()...)
	errs = append(errs, s.HealthCheck.faults(s)...)
	switch s.PullPolicy {
	case "", PullMissing, PullAlways, PullNever:
	default:
		fault("pullPolicy %q is none of missing, always, never", clip(string(s.PullPolicy), 40))
	}
	if s.RegistryCredentials != "" && !object.MatchString(s.RegistryCredentials) {
		fault("registryCredentials: %q is no name of a Secret", clip(s.RegistryCredentials, 80))
	}
	errs = append(errs, s.envFaults()...)
	return append(errs, s.mountFaults()...)
}

func (s *Service) envFaults() []error {
	var errs []error
	for _, e := range s.Env {
		if !envName.MatchString(e.Name) {
			errs = append(errs, fmt.Errorf("env: %q is no variable name", clip(e.Name, 80)))
		}
		if strings.ContainsRune(e.Value, 0) {
			errs = append(errs, fmt.Errorf("env: the value of %s contains a NUL", e.Name))
		}
		if e.ValueFrom == nil {
			continue
		}
		refs := 0
		for _, ref := range []*KeyRef{e.ValueFrom.SecretKeyRef, e.ValueFrom.ConfigMapKeyRef} {
			if ref == nil {
				continue
			}
			refs++
			if !object.MatchString(ref.Name) || !objectKey.MatchString(ref.Key) {
				errs = append(errs, fmt.Errorf("env: %s: valueFrom needs the name of an object and of a key in it", e.Name))
			}
		}
		if refs != 1 || e.Value != "" {
			errs = append(errs, fmt.Errorf("env: %s needs exactly one of value, secretKeyRef and configMapKeyRef", e.Name))
		}
	}
	return errs
}

// mountFaults looks at everything that takes a place in the container's tree.
func (s *Service) mountFaults() []error {
	var errs []error
	taken := map[string]string{}
	mount := func(what, p string) {
		errs = append(errs, pathFaults(what, p)...)
		if other, is := taken[p]; is {
			errs = append(errs, fmt.Errorf("%s: %q is taken by %s already", what, clip(p, 80), other))
		}
		taken[p] = what
	}
	for _, v := range s.Volumes {
		errs = append(errs, pathFaults("volumes", v.HostPath)...)
		mount("volumes", v.ContainerPath)
	}
	for _, t := range s.Tmpfs {
		mount("tmpfs", t.Path)
		if _, err := ParseBytes(t.Size); err != nil && t.Size != "" {
			errs = append(errs, fmt.Errorf("tmpfs: size: %w", err))
		}
	}
	for _, f := range s.Files {
		mount("files", f.Path)
		if (f.Secret == "") == (f.ConfigMap == "") {
			errs = append(errs, fmt.Errorf("files: %q needs either a secret or a configMap", clip(f.Path, 80)))
		} else if !object.MatchString(f.Secret + f.ConfigMap) {
			errs = append(errs, fmt.Errorf("files: %q is no name of an object", clip(f.Secret+f.ConfigMap, 80)))
		}
		for _, key := range f.Keys {
			if !objectKey.MatchString(key) || key == "." || key == ".." {
				errs = append(errs, fmt.Errorf("files: %q is no key", clip(key, 80)))
			}
		}
	}
	return errs
}

func (s *Service) networkFaults() []error {
	switch s.NetworkMode {
	case "", NetworkPrivate:
		return nil
	case NetworkHost, NetworkNone:
		if len(s.Ports) > 0 {
			return []error{fmt.Errorf("ports: with networkMode %s nothing is published", s.NetworkMode)}
		}
		return nil
	}
	return []error{fmt.Errorf("networkMode %q is none of private, host, none", clip(string(s.NetworkMode), 40))}
}

func (h *HealthCheck) faults(s *Service) []error {
	if h == nil {
		return nil
	}
	var errs []error
	if (len(h.Command) == 0) == (h.HTTP == nil) {
		errs = append(errs, fmt.Errorf("healthCheck needs either a command or http"))
	}
	errs = append(errs, h.Interval.faults("healthCheck.interval", minInterval, maxInterval)...)
	errs = append(errs, h.Timeout.faults("healthCheck.timeout", minInterval, maxInterval)...)
	errs = append(errs, h.StartPeriod.faults("healthCheck.startPeriod", 0, maxStartPeriod)...)
	if h.Retries < 0 || h.Retries > maxRetries {
		errs = append(errs, fmt.Errorf("healthCheck.retries %d is not between 1 and %d", h.Retries, maxRetries))
	}
	if h.HTTP == nil {
		return errs
	}
	if h.HTTP.Path != "" && !httpPath.MatchString(h.HTTP.Path) {
		errs = append(errs, fmt.Errorf("healthCheck.http.path %q does not begin with / or has a blank", clip(h.HTTP.Path, 80)))
	}
	if _, reachable := s.HealthAddress(); !reachable {
		errs = append(errs, fmt.Errorf("healthCheck.http.port %d is not among the ports that are published over tcp", h.HTTP.Port))
	}
	return errs
}

func (l *Limits) faults() []error {
	if l == nil {
		return nil
	}
	var errs []error
	if _, err := ParseCPUs(l.CPUs); l.CPUs != "" && err != nil {
		errs = append(errs, fmt.Errorf("limits.cpus: %w", err))
	}
	if n, err := ParseBytes(l.Memory); l.Memory != "" && err != nil {
		errs = append(errs, fmt.Errorf("limits.memory: %w", err))
	} else if l.Memory != "" && n < minMemory {
		errs = append(errs, fmt.Errorf("limits.memory %s is less than a container needs to start (6Mi)", l.Memory))
	}
	return errs
}

func (d *Duration) faults(what string, least, most time.Duration) []error {
	if d == nil || d.Duration >= least && d.Duration <= most {
		return nil
	}
	return []error{fmt.Errorf("%s %s is not between %s and %s", what, d, least, most)}
}

func pathFaults(what, p string) []error {
	if path.IsAbs(p) && path.Clean(p) == p && !strings.ContainsAny(p, ":,\x00") {
		return nil
	}
	return []error{fmt.Errorf("%s: %q is no clean absolute path (a colon or a comma is not allowed)", what, clip(p, 80))}
}
