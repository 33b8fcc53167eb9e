package wire

import (
	"encoding/json"
	"fmt"
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

// Service is one container. What is left out is the image's or the default.
type Service struct {
	Name          string        `json:"name"`
	Image         string        `json:"image"`
	Ports         []string      `json:"ports,omitempty"` // "[IP:]8080:80[/tcp|/udp]"
	Env           []EnvVar      `json:"env,omitempty"`
	Volumes       []Volume      `json:"volumes,omitempty"`
	RestartPolicy RestartPolicy `json:"restartPolicy,omitempty"`
	StopTimeout   *Duration     `json:"stopTimeout,omitempty"`

	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Command     []string          `json:"command,omitempty"` // arguments of the entrypoint
	User        string            `json:"user,omitempty"`    // "1000", "1000:1000", "www-data"
	WorkingDir  string            `json:"workingDir,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Limits      *Limits           `json:"limits,omitempty"`
	HealthCheck *HealthCheck      `json:"healthCheck,omitempty"`
	Devices     []string          `json:"devices,omitempty"` // "/dev/ttyUSB0[:/dev/modem][:rwm]"
	Tmpfs       []Tmpfs           `json:"tmpfs,omitempty"`
	NetworkMode NetworkMode       `json:"networkMode,omitempty"`
	PullPolicy  PullPolicy        `json:"pullPolicy,omitempty"`
	// RegistryCredentials names a Secret of type kubernetes.io/dockerconfigjson.
	RegistryCredentials string   `json:"registryCredentials,omitempty"`
	DependsOn           []string `json:"dependsOn,omitempty"` // services that have to be up first
	Files               []File   `json:"files,omitempty"`
}

// EnvVar is one environment variable of a container: a value, or where it
// comes from.
type EnvVar struct {
	Name      string     `json:"name"`
	Value     string     `json:"value"`
	ValueFrom *ValueFrom `json:"valueFrom,omitempty"`
}

// ValueFrom names one key of a Secret or of a ConfigMap.
type ValueFrom struct {
	SecretKeyRef    *KeyRef `json:"secretKeyRef,omitempty"`
	ConfigMapKeyRef *KeyRef `json:"configMapKeyRef,omitempty"`
}

// KeyRef is one key of an object in the Deployment's namespace.
type KeyRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// File puts the keys of a Secret or of a ConfigMap into a directory of the
// container, a file each, read-only and in memory.
type File struct {
	Path      string   `json:"path"`
	Secret    string   `json:"secret,omitempty"`
	ConfigMap string   `json:"configMap,omitempty"`
	Keys      []string `json:"keys,omitempty"` // empty: all of them
}

// Volume is a directory or file of the device inside the container.
type Volume struct {
	HostPath      string `json:"hostPath"`
	ContainerPath string `json:"containerPath"`
	ReadOnly      bool   `json:"readOnly,omitempty"`
}

// Tmpfs is an empty directory in memory.
type Tmpfs struct {
	Path string `json:"path"`
	Size string `json:"size,omitempty"` // "16Mi"; empty: half of the memory
}

// Limits bound what a container may use.
type Limits struct {
	CPUs   string `json:"cpus,omitempty"`   // "0.5" is half of one
	Memory string `json:"memory,omitempty"` // "128Mi"
}

// HealthCheck says when a container that runs is as it should be. It has a
// command or an HTTP request.
type HealthCheck struct {
	Command     []string   `json:"command,omitempty"` // run in the container; exit code 0 is healthy
	HTTP        *HTTPCheck `json:"http,omitempty"`
	Interval    *Duration  `json:"interval,omitempty"`    // default DefaultHealthInterval
	Timeout     *Duration  `json:"timeout,omitempty"`     // of one try; default DefaultHealthTimeout
	Retries     int        `json:"retries,omitempty"`     // failures in a row that make it unhealthy; default DefaultHealthRetries
	StartPeriod *Duration  `json:"startPeriod,omitempty"` // in which failures do not count
}

// HTTPCheck is a GET that the agent makes; 200 to 399 is healthy.
type HTTPCheck struct {
	Port uint16 `json:"port"` // of the container; published, unless the network is the host's
	Path string `json:"path,omitempty"`
}

// The defaults of a HealthCheck.
const (
	DefaultHealthInterval = 30 * time.Second
	DefaultHealthTimeout  = 5 * time.Second
	DefaultHealthRetries  = 3
)

// NetworkMode is what network a container has.
type NetworkMode string

// The network modes; the empty one means NetworkPrivate.
const (
	NetworkPrivate NetworkMode = "private" // its own, behind the device's address
	NetworkHost    NetworkMode = "host"    // the device's
	NetworkNone    NetworkMode = "none"    // loopback only
)

// PullPolicy says when an image is looked for in its registry.
type PullPolicy string

// The pull policies; the empty one means PullMissing.
const (
	PullMissing PullPolicy = "missing" // when it is not on the device
	PullAlways  PullPolicy = "always"  // once for each generation of the Deployment
	PullNever   PullPolicy = "never"   // it has to be on the device already
)

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

// Or gives the duration, or the default when there is none.
func (d *Duration) Or(def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	return d.Duration
}

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
