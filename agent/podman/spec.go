package podman

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
// ContainerCreateLibpod). The hash of a service is over its JSON: new fields
// go to the end and are left out when empty, or every container is replaced.
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

	Entrypoint     []string          `json:"entrypoint,omitempty"`
	Command        []string          `json:"command,omitempty"`
	User           string            `json:"user,omitempty"`
	WorkDir        string            `json:"work_dir,omitempty"`
	ResourceLimits *ResourceLimits   `json:"resource_limits,omitempty"`
	Devices        []LinuxDevice     `json:"devices,omitempty"`
	Annotations    map[string]string `json:"annotations,omitempty"`
}

// PortMapping publishes a port of the container.
type PortMapping struct {
	HostIP        string `json:"host_ip,omitempty"`
	HostPort      uint16 `json:"host_port"`
	ContainerPort uint16 `json:"container_port"`
	Protocol      string `json:"protocol"`
}

// Mount is a bind mount or a tmpfs.
type Mount struct {
	Type        string   `json:"type"`
	Source      string   `json:"source"` // "tmpfs" for one
	Destination string   `json:"destination"`
	Options     []string `json:"options"`
}

// LogConfig is where a container's output goes.
type LogConfig struct {
	Driver string `json:"driver"`
	Size   int64  `json:"size"` // bytes
}

// ResourceLimits is the part of the OCI runtime specification's
// LinuxResources that is used here.
type ResourceLimits struct {
	CPU    *CPULimit    `json:"cpu,omitempty"`
	Memory *MemoryLimit `json:"memory,omitempty"`
}

// CPULimit lets a container run for Quota microseconds in each Period.
type CPULimit struct {
	Quota  int64  `json:"quota"`
	Period uint64 `json:"period"`
}

// MemoryLimit is in bytes.
type MemoryLimit struct {
	Limit int64 `json:"limit"`
}

// LinuxDevice is a device in the form of `podman run --device`.
type LinuxDevice struct {
	Path string `json:"path"`
}
