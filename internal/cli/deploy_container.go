package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// containerFlags are deploy's flags for how the container runs, under the names
// that `podman run` and `docker run` have for the same. --device is a device of
// the fleet here, so a device of the machine is --host-device.
type containerFlags struct {
	ports, env, volumes         []string
	envSecrets, envConfigMaps   []string
	secrets, configMaps         []string
	labels, hostDevices, tmpfs  []string
	entrypoint, user, workdir   string
	cpus, memory                string
	network, pull, pullSecret   string
	restart                     string
	stopTimeout                 time.Duration
	healthCmd, healthHTTP       string
	healthInterval              time.Duration
	healthTimeout, healthPeriod time.Duration
	healthRetries               int32
	command                     []string // what follows --
}

func (c *containerFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&c.ports, "port", "p", nil, "publish a port, [IP:]`HOST:CONTAINER`[/udp]; repeatable")
	flags.StringArrayVarP(&c.env, "env", "e", nil, "environment variable, `KEY=VALUE`; repeatable")
	flags.StringArrayVar(&c.envSecrets, "env-secret", nil, "environment variable from a Secret of the namespace, `KEY=SECRET/KEY`; repeatable")
	flags.StringArrayVar(&c.envConfigMaps, "env-config-map", nil, "environment variable from a ConfigMap, `KEY=CONFIGMAP/KEY`; repeatable")
	flags.StringArrayVar(&c.volumes, "volume", nil, "directory of the device, `HOST:CONTAINER`[:ro]; repeatable")
	flags.StringArrayVar(&c.secrets, "secret", nil, "the keys of a Secret as files in a directory, in memory, `SECRET:DIRECTORY`[:KEY,KEY...]; repeatable")
	flags.StringArrayVar(&c.configMaps, "config-map", nil, "the keys of a ConfigMap as files in a directory, `CONFIGMAP:DIRECTORY`[:KEY,KEY...]; repeatable")
	flags.StringArrayVar(&c.tmpfs, "tmpfs", nil, "empty `DIRECTORY`[:size=16Mi] in memory; repeatable")
	flags.StringArrayVar(&c.hostDevices, "host-device", nil, "device of the machine, `/dev/X`[:/dev/Y][:rwm]; repeatable")
	flags.StringVar(&c.entrypoint, "entrypoint", "", "`program` in place of the image's: one word, or a JSON list of words")
	flags.StringVarP(&c.user, "user", "u", "", "`user`[:group] that the container runs as")
	flags.StringVarP(&c.workdir, "workdir", "w", "", "`directory` that the container starts in")
	flags.StringArrayVar(&c.labels, "label", nil, "label of the container, `KEY=VALUE`; repeatable")
	flags.StringVar(&c.cpus, "cpus", "", "the most that it may use: a `number` of processors, such as 0.5")
	flags.StringVarP(&c.memory, "memory", "m", "", "the most that it may have: an `amount`, such as 128Mi")
	flags.StringVar(&c.healthCmd, "health-cmd", "", "`command` in the container that says whether it is healthy: for its shell, or a JSON list of words")
	flags.StringVar(&c.healthHTTP, "health-http", "", "published `port`[/path] of the container that answers a GET with 200 to 399 while it is healthy")
	flags.DurationVar(&c.healthInterval, "health-interval", 0, "how `long` from one check to the next (default 30s)")
	flags.DurationVar(&c.healthTimeout, "health-timeout", 0, "how `long` a check may take (default 5s)")
	flags.DurationVar(&c.healthPeriod, "health-start-period", 0, "how `long` after the start failures do not count")
	flags.Int32Var(&c.healthRetries, "health-retries", 0, "how many `failures` in a row make it unhealthy (default 3)")
	flags.StringVar(&c.network, "network", "", "private (the default), host or none: the `network` that it has")
	flags.StringVar(&c.pull, "pull", "", "missing (the default), always or never: when the `image` is looked for in its registry")
	flags.StringVar(&c.pullSecret, "pull-secret", "", "`name` of a Secret of type kubernetes.io/dockerconfigjson, for the image's registry")
	flags.StringVar(&c.restart, "restart", "", "restart `policy`: no, on-failure, always or unless-stopped (the default)")
	flags.DurationVar(&c.stopTimeout, "stop-timeout", 0, "how `long` it may take to stop before it is killed (default 5m0s)")
	mustComplete(cmd, "restart", restartPolicies()...)
	mustComplete(cmd, "network", string(wire.NetworkPrivate), string(wire.NetworkHost), string(wire.NetworkNone))
	mustComplete(cmd, "pull", string(wire.PullMissing), string(wire.PullAlways), string(wire.PullNever))
	cmd.MarkFlagsMutuallyExclusive("health-cmd", "health-http")
}

// apply puts what the flags say into a service. What the service's own rules
// refuse is left to them.
func (c *containerFlags) apply(s *v1alpha1.Service) error {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	s.RestartPolicy, s.NetworkMode, s.PullPolicy = c.restart, c.network, c.pull
	s.User, s.WorkingDir, s.RegistryCredentials = c.user, v1alpha1.Path(c.workdir), v1alpha1.ObjectName(c.pullSecret)
	if c.stopTimeout != 0 {
		s.StopTimeout = c.stopTimeout.String()
	}
	if c.cpus != "" || c.memory != "" {
		s.Limits = &v1alpha1.Limits{CPUs: c.cpus, Memory: v1alpha1.Bytes(c.memory)}
	}
	for _, p := range c.ports {
		s.Ports = append(s.Ports, v1alpha1.Port(p))
	}
	for _, d := range c.hostDevices {
		s.Devices = append(s.Devices, v1alpha1.DevicePath(d))
	}
	errs = append(errs, c.applyEnv(s), c.applyMounts(s), c.applyHealth(s))
	for _, l := range c.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok {
			fault("--label %q is not KEY=VALUE", l)
			continue
		}
		if s.Labels == nil {
			s.Labels = map[string]v1alpha1.ContainerLabel{}
		}
		s.Labels[key] = v1alpha1.ContainerLabel(value)
	}
	if c.entrypoint != "" {
		list, isList, err := words(c.entrypoint)
		if err != nil {
			fault("--entrypoint: %w", err)
		}
		if !isList {
			list = []v1alpha1.Word{v1alpha1.Word(c.entrypoint)}
		}
		s.Entrypoint = list
	}
	for _, w := range c.command {
		s.Command = append(s.Command, v1alpha1.Word(w))
	}
	return errors.Join(errs...)
}

func (c *containerFlags) applyEnv(s *v1alpha1.Service) error {
	var errs []error
	for _, e := range c.env {
		key, value, ok := strings.Cut(e, "=")
		if !ok {
			errs = append(errs, fmt.Errorf("--env %q is not KEY=VALUE", e))
			continue
		}
		s.Env = append(s.Env, v1alpha1.EnvVar{Name: key, Value: value})
	}
	from := func(flag, of string, list []string, ref func(*v1alpha1.KeyRef) *v1alpha1.ValueFrom) {
		for _, e := range list {
			name, source, ok := strings.Cut(e, "=")
			object, key, also := strings.Cut(source, "/")
			if !ok || !also || object == "" || key == "" {
				errs = append(errs, fmt.Errorf("--%s %q is not KEY=%s/KEY", flag, e, of))
				continue
			}
			s.Env = append(s.Env, v1alpha1.EnvVar{Name: name, ValueFrom: ref(&v1alpha1.KeyRef{Name: v1alpha1.ObjectName(object), Key: v1alpha1.ObjectKey(key)})})
		}
	}
	from("env-secret", "SECRET", c.envSecrets, func(r *v1alpha1.KeyRef) *v1alpha1.ValueFrom { return &v1alpha1.ValueFrom{SecretKeyRef: r} })
	from("env-config-map", "CONFIGMAP", c.envConfigMaps, func(r *v1alpha1.KeyRef) *v1alpha1.ValueFrom { return &v1alpha1.ValueFrom{ConfigMapKeyRef: r} })
	return errors.Join(errs...)
}

func (c *containerFlags) applyMounts(s *v1alpha1.Service) error {
	var errs []error
	for _, v := range c.volumes {
		volume, err := parseVolume(v)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.Volumes = append(s.Volumes, volume)
	}
	files := func(flag, of string, list []string, object func(*v1alpha1.File, v1alpha1.ObjectName)) {
		for _, text := range list {
			parts := strings.SplitN(text, ":", 3)
			if len(parts) < 2 || parts[0] == "" || len(parts) == 3 && parts[2] == "" {
				errs = append(errs, fmt.Errorf("--%s %q is not %s:DIRECTORY[:KEY,KEY...]", flag, text, of))
				continue
			}
			f := v1alpha1.File{Path: v1alpha1.Path(parts[1])}
			object(&f, v1alpha1.ObjectName(parts[0]))
			if len(parts) == 3 {
				for key := range strings.SplitSeq(parts[2], ",") {
					f.Keys = append(f.Keys, v1alpha1.ObjectKey(key))
				}
			}
			s.Files = append(s.Files, f)
		}
	}
	files("secret", "SECRET", c.secrets, func(f *v1alpha1.File, name v1alpha1.ObjectName) { f.Secret = name })
	files("config-map", "CONFIGMAP", c.configMaps, func(f *v1alpha1.File, name v1alpha1.ObjectName) { f.ConfigMap = name })
	for _, text := range c.tmpfs {
		path, option, more := strings.Cut(text, ":")
		size, sized := strings.CutPrefix(option, "size=")
		if more && !sized {
			errs = append(errs, fmt.Errorf("--tmpfs %q is not DIRECTORY[:size=16Mi]", text))
			continue
		}
		s.Tmpfs = append(s.Tmpfs, v1alpha1.Tmpfs{Path: v1alpha1.Path(path), Size: v1alpha1.Bytes(size)})
	}
	return errors.Join(errs...)
}

func (c *containerFlags) applyHealth(s *v1alpha1.Service) error {
	h := &v1alpha1.HealthCheck{Retries: c.healthRetries}
	for to, d := range map[*v1alpha1.Delay]time.Duration{&h.Interval: c.healthInterval, &h.Timeout: c.healthTimeout, &h.StartPeriod: c.healthPeriod} {
		if d != 0 {
			*to = v1alpha1.Delay(d.String())
		}
	}
	switch {
	case c.healthCmd != "":
		list, isList, err := words(c.healthCmd)
		if err != nil {
			return fmt.Errorf("--health-cmd: %w", err)
		}
		if !isList {
			list = []v1alpha1.Word{"/bin/sh", "-c", v1alpha1.Word(c.healthCmd)}
		}
		h.Command = list
	case c.healthHTTP != "":
		port, path, more := strings.Cut(c.healthHTTP, "/")
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("--health-http %q is not PORT[/path], such as 80/healthz", c.healthHTTP)
		}
		h.HTTP = &v1alpha1.HTTPCheck{Port: int32(n)} //nolint:gosec // 16 bits
		if more {
			h.HTTP.Path = "/" + path
		}
	case h.Interval != "" || h.Timeout != "" || h.StartPeriod != "" || h.Retries != 0:
		return errors.New("--health-interval, --health-timeout, --health-retries and --health-start-period need --health-cmd or --health-http")
	default:
		return nil
	}
	s.HealthCheck = h
	return nil
}

// words reads a JSON list of words; isList is false for what is not meant to be
// one.
func words(text string) (list []v1alpha1.Word, isList bool, err error) {
	if !strings.HasPrefix(strings.TrimSpace(text), "[") {
		return nil, false, nil
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) == 0 {
		return nil, true, fmt.Errorf("%q is no JSON list of words", text)
	}
	return list, true, nil
}
