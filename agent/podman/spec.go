package podman

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// The labels of our containers. Only a container with labelManaged set to
// "true", and the deployment and service it is about, is ever touched.
const (
	labelManaged    = "fleet.nationtech.io/managed"
	labelDeployment = "fleet.nationtech.io/deployment"
	labelService    = "fleet.nationtech.io/service"
	labelUID        = "fleet.nationtech.io/uid"
	labelHash       = "fleet.nationtech.io/spec-hash"
)

// logLimit bounds a container's log on the device, in bytes: a chatty
// container must not fill the disk.
const logLimit = 10 << 20

// Spec is Podman's SpecGenerator, as far as it is used here (libpod API,
// ContainerCreateLibpod).
type Spec struct {
	Name          string            `json:"name"`
	Image         string            `json:"image"`
	Labels        map[string]string `json:"labels"`
	Env           map[string]string `json:"env,omitempty"`
	PortMappings  []PortMapping     `json:"portmappings,omitempty"`
	Mounts        []Mount           `json:"mounts,omitempty"`
	RestartPolicy string            `json:"restart_policy"`
	StopTimeout   uint              `json:"stop_timeout"` // seconds
	Log           LogConfig         `json:"log_configuration"`

	NetNS          *Namespace          `json:"netns,omitempty"`
	NetworkOptions map[string][]string `json:"network_options,omitempty"`
}

// PortMapping publishes a port of the container.
type PortMapping struct {
	HostIP        string `json:"host_ip,omitempty"`
	HostPort      uint16 `json:"host_port"`
	ContainerPort uint16 `json:"container_port"`
	Protocol      string `json:"protocol"`
}

// Mount is a bind mount.
type Mount struct {
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Destination string   `json:"destination"`
	Options     []string `json:"options"`
}

// LogConfig is where a container's output goes.
type LogConfig struct {
	Driver string `json:"driver"`
	Size   int64  `json:"size"` // bytes
}

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
	spec        Spec
	hash        string
	plainHTTP   bool // of the image's registry
	policy      wire.RestartPolicy
	stopTimeout time.Duration
}

// newWant maps a service to a container. The hash is over everything that
// makes a difference to the container, and not over the Deployment's uid or
// generation: a Deployment made anew with the same content restarts nothing.
func newWant(deployment, uid string, s wire.Service) (*want, error) {
	w := &want{
		key:         key{deployment, s.Name},
		policy:      s.RestartPolicy.Or(),
		stopTimeout: wire.DefaultStopTimeout,
	}
	if s.StopTimeout != nil {
		w.stopTimeout = s.StopTimeout.Duration
	}
	w.spec = Spec{
		Name:          w.name(),
		Image:         normalize(s.Image),
		RestartPolicy: string(w.policy),
		StopTimeout:   uint(w.stopTimeout.Seconds()),
		Log:           LogConfig{Driver: "k8s-file", Size: logLimit},
	}
	if len(s.Env) > 0 {
		w.spec.Env = make(map[string]string, len(s.Env))
	}
	for _, e := range s.Env {
		w.spec.Env[e.Name] = e.Value // the last one wins, as in a shell
	}
	for _, text := range s.Ports {
		p, err := wire.ParsePort(text)
		if err != nil {
			return nil, err
		}
		m := PortMapping{HostPort: p.HostPort, ContainerPort: p.ContainerPort, Protocol: p.Protocol}
		if p.HostIP.IsValid() {
			m.HostIP = p.HostIP.String()
		}
		w.spec.PortMappings = append(w.spec.PortMappings, m)
	}
	for _, v := range s.Volumes {
		access := "rw"
		if v.ReadOnly {
			access = "ro"
		}
		w.spec.Mounts = append(w.spec.Mounts, Mount{
			Type: "bind", Source: v.HostPath, Destination: v.ContainerPath, Options: []string{"rbind", access},
		})
	}
	canonical, err := json.Marshal(w.spec) // map keys come sorted
	if err != nil {
		return nil, fmt.Errorf("encode specification: %w", err)
	}
	sum := sha256.Sum256(canonical)
	w.hash = hex.EncodeToString(sum[:8])
	w.spec.Labels = map[string]string{
		labelManaged:    "true",
		labelDeployment: deployment,
		labelService:    s.Name,
		labelUID:        uid,
		labelHash:       w.hash,
	}
	return w, nil
}
