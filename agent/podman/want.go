package podman

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// key names one container of the fleet on this device.
type key struct{ deployment, service string }

func (k key) String() string { return k.deployment + "/" + k.service }

// name is the container's name. Two keys can share one ("a-b"+"c" and
// "a"+"b-c"): the second is then refused, as with any foreign container.
func (k key) name() string { return "fleet-" + k.deployment + "-" + k.service }

// keyOf reads the key from a container's labels; ok is false unless the
// container is ours.
func keyOf(labels map[string]string) (key, bool) {
	k := key{labels[labelDeployment], labels[labelService]}
	return k, labels[labelManaged] == "true" && k.deployment != "" && k.service != ""
}

// want is one service as it should be.
type want struct {
	key
	uid         string
	generation  int64
	spec        Spec
	hash        string
	plainHTTP   bool // of the image's registry
	policy      wire.RestartPolicy
	pull        wire.PullPolicy
	stopTimeout time.Duration
	dependsOn   []key
	health      *wire.HealthCheck
	healthURL   string // of an HTTP check
	material    material
	// stopped is set when a person stopped it on purpose.
	stopped bool
}

// cpuPeriod is what Podman and Docker use for --cpus, in microseconds.
const cpuPeriod = 100_000

// edition is which writing of a Deployment something is about. A new one may
// mean another image though the specification is the same.
type edition struct {
	uid        string
	generation int64
}

func (w *want) edition() edition { return edition{w.uid, w.generation} }

// newWant maps a service to a container. The hash is over everything that
// makes a difference to the container, and not over the Deployment's uid or
// generation: a Deployment made anew with the same content restarts nothing.
// What it takes from Secrets and ConfigMaps is in m.
func newWant(state *wire.DesiredState, s wire.Service, m material) (*want, error) {
	w := &want{
		key: key{state.Deployment, s.Name}, uid: state.UID, generation: state.Generation,
		policy: s.RestartPolicy.Or(), pull: s.PullPolicy, stopTimeout: wire.DefaultStopTimeout,
		health: s.HealthCheck, material: m,
	}
	if s.StopTimeout != nil {
		w.stopTimeout = s.StopTimeout.Duration
	}
	for _, name := range s.DependsOn {
		w.dependsOn = append(w.dependsOn, key{state.Deployment, name})
	}
	if at, ok := s.HealthAddress(); ok {
		w.healthURL = "http://" + at.String() + "/"
		if s.HealthCheck.HTTP.Path != "" {
			w.healthURL = "http://" + at.String() + s.HealthCheck.HTTP.Path
		}
	}
	w.spec = Spec{
		Name:          w.name(),
		Image:         normalize(s.Image),
		RestartPolicy: string(w.policy),
		StopTimeout:   uint(w.stopTimeout.Seconds()),
		Log:           LogConfig{Driver: "k8s-file", Size: logLimit},
		Entrypoint:    s.Entrypoint,
		Command:       s.Command,
		User:          s.User,
		WorkDir:       s.WorkingDir,
	}
	for _, e := range s.Env {
		if e.ValueFrom != nil {
			continue // in memory only: see material
		}
		if w.spec.Env == nil {
			w.spec.Env = make(map[string]string, len(s.Env))
		}
		w.spec.Env[e.Name] = e.Value // the last one wins, as in a shell
	}
	for _, add := range []func(wire.Service) error{w.addPorts, w.addMounts, w.addLimits} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	for _, d := range s.Devices {
		w.spec.Devices = append(w.spec.Devices, LinuxDevice{Path: d})
		// The groups of the agent's user, such as dialout, open devices.
		w.spec.Annotations = map[string]string{"run.oci.keep_original_groups": "1"}
	}
	switch s.NetworkMode {
	case wire.NetworkHost, wire.NetworkNone:
		w.spec.NetNS = &Namespace{Mode: string(s.NetworkMode)}
	}
	return w, w.seal(s.Labels)
}

// seal computes the hash and puts the labels on.
func (w *want) seal(labels map[string]string) error {
	canonical, err := json.Marshal(w.spec) // map keys come sorted
	if err != nil {
		return fmt.Errorf("encode specification: %w", err)
	}
	sum := sha256.New()
	sum.Write(canonical)
	if len(labels) > 0 || w.material.tag != "" {
		more, err := json.Marshal(map[string]any{"labels": labels, "material": w.material.tag})
		if err != nil {
			return fmt.Errorf("encode specification: %w", err)
		}
		sum.Write(more)
	}
	w.hash = hex.EncodeToString(sum.Sum(nil)[:8])
	w.spec.Labels = maps.Clone(labels)
	if w.spec.Labels == nil {
		w.spec.Labels = map[string]string{}
	}
	maps.Copy(w.spec.Labels, map[string]string{
		labelManaged:    "true",
		labelDeployment: w.deployment,
		labelService:    w.service,
		labelUID:        w.uid,
		labelHash:       w.hash,
	})
	return nil
}

func (w *want) addPorts(s wire.Service) error {
	for _, text := range s.Ports {
		p, err := wire.ParsePort(text)
		if err != nil {
			return err
		}
		m := PortMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol}
		if p.HostIP.IsValid() {
			m.HostIP = p.HostIP.String()
		}
		w.spec.PortMappings = append(w.spec.PortMappings, m)
	}
	return nil
}

func (w *want) addMounts(s wire.Service) error {
	for _, v := range s.Volumes {
		access := "rw"
		if v.ReadOnly {
			access = "ro"
		}
		w.spec.Mounts = append(w.spec.Mounts, Mount{
			Type: "bind", Source: v.HostPath, Destination: v.ContainerPath, Options: []string{"rbind", access},
		})
	}
	for _, t := range s.Tmpfs {
		options := []string{"rw", "nosuid", "nodev"}
		if t.Size != "" {
			n, err := wire.ParseBytes(t.Size)
			if err != nil {
				return err
			}
			options = append(options, fmt.Sprintf("size=%d", n))
		}
		w.spec.Mounts = append(w.spec.Mounts, Mount{Type: "tmpfs", Source: "tmpfs", Destination: t.Path, Options: options})
	}
	w.spec.Mounts = append(w.spec.Mounts, w.material.mounts...)
	return nil
}

func (w *want) addLimits(s wire.Service) error {
	if s.Limits == nil || *s.Limits == (wire.Limits{}) {
		return nil
	}
	w.spec.ResourceLimits = &ResourceLimits{}
	if s.Limits.CPUs != "" {
		milli, err := wire.ParseCPUs(s.Limits.CPUs)
		if err != nil {
			return err
		}
		w.spec.ResourceLimits.CPU = &CPULimit{Quota: milli * cpuPeriod / 1000, Period: cpuPeriod}
	}
	if s.Limits.Memory != "" {
		n, err := wire.ParseBytes(s.Limits.Memory)
		if err != nil {
			return err
		}
		w.spec.ResourceLimits.Memory = &MemoryLimit{Limit: n}
	}
	return nil
}
