package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Score says what to run, in the terms of one of several variants. A variant
// that the schema does not know is stored as it is and judged by the agent, so
// that a new one needs no new operator; the fields of the known variant are
// strictly typed. (PodmanV0's data has exactly one field: the generator of
// operator/crd adds the rule that refuses others, which no marker can say.)
//
// +kubebuilder:validation:XValidation:rule="self.type != 'PodmanV0' || has(self.data.services)",fieldPath=".data.services",message="PodmanV0 needs at least one service"
type Score struct {
	// type names the variant, such as PodmanV0.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",message="type must be letters, digits and _, and not start with a digit"
	Type string `json:"type"`
	// data is the variant's own.
	// +required
	// +kubebuilder:pruning:PreserveUnknownFields
	Data ScoreData `json:"data"`
	// restartedAt is set to have every container made anew, in the batches of
	// the rollout, as `fleetctl rollout restart` does.
	// +optional
	RestartedAt *metav1.Time `json:"restartedAt,omitempty"`
}

// Service is one container.
type Service struct {
	// name is unique among the services of the Deployment.
	// +required
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",message="name must be one RFC 1123 label: a-z, 0-9 and -, with a letter or digit at both ends"
	Name string `json:"name"`
	// image is an image reference such as docker.io/library/nginx:1.29.
	// +required
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]+([._:/@-]+[A-Za-z0-9]+)*$')",message="image must be an image reference such as docker.io/library/nginx:1.29"
	Image string `json:"image"`
	// ports are published on the device: [IP:]HOST:CONTAINER[/tcp|/udp].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Ports []Port `json:"ports,omitempty"`
	// env are environment variables.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=128
	Env []EnvVar `json:"env,omitempty"`
	// volumes are directories or files of the device inside the container.
	// +optional
	// +listType=map
	// +listMapKey=containerPath
	// +kubebuilder:validation:MaxItems=64
	Volumes []Volume `json:"volumes,omitempty"`
	// restartPolicy says what happens when the container exits; the
	// default is unless-stopped. In YAML, "no" needs quotes.
	// +optional
	// +kubebuilder:validation:Enum=no;on-failure;always;unless-stopped
	RestartPolicy string `json:"restartPolicy,omitempty"`
	// stopTimeout is how long the container may take to stop before it is
	// killed, such as 90s; the default is 5m, the most 24h.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) <= duration('24h')",message="stopTimeout must be a duration between 0s and 24h, such as 90s or 5m"
	StopTimeout string `json:"stopTimeout,omitempty"`

	// entrypoint takes the place of the image's.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Entrypoint []Word `json:"entrypoint,omitempty"`
	// command are the arguments of the entrypoint, in place of the image's.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	Command []Word `json:"command,omitempty"`
	// user is who the container runs as: user[:group], by number or name.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$')",message="user must be user[:group], such as 1000 or www-data:www-data"
	User string `json:"user,omitempty"`
	// workingDir is where the container starts.
	// +optional
	WorkingDir Path `json:"workingDir,omitempty"`
	// labels are put on the container.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 253 && k.matches('^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$') && !k.startsWith('fleet.nationtech.io/'))",message="a label key must be of a-z, 0-9, '.', '_', '/' and '-', at most 253, and not begin with fleet.nationtech.io/"
	Labels map[string]ContainerLabel `json:"labels,omitempty"`
	// limits bound what the container may use.
	// +optional
	Limits *Limits `json:"limits,omitempty"`
	// healthCheck says when the container is as it should be; until then it
	// does not count as running.
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
	// devices of the machine inside the container: /dev/X[:/dev/Y][:rwm].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Devices []DevicePath `json:"devices,omitempty"`
	// tmpfs are empty directories in memory.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MaxItems=32
	Tmpfs []Tmpfs `json:"tmpfs,omitempty"`
	// networkMode is private (its own network behind the device's address,
	// the default), host (the device's own) or none.
	// +optional
	// +kubebuilder:validation:Enum=private;host;none
	NetworkMode string `json:"networkMode,omitempty"`
	// pullPolicy is missing (the default), always (once for each generation
	// of the Deployment) or never.
	// +optional
	// +kubebuilder:validation:Enum=missing;always;never
	PullPolicy string `json:"pullPolicy,omitempty"`
	// registryCredentials names a Secret of type
	// kubernetes.io/dockerconfigjson in the Deployment's namespace.
	// +optional
	RegistryCredentials ObjectName `json:"registryCredentials,omitempty"`
	// dependsOn are services of the same Deployment that have to be up, and
	// healthy if they have a health check, before this one starts.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=31
	DependsOn []ServiceName `json:"dependsOn,omitempty"`
	// files are the keys of Secrets and ConfigMaps as read-only files in
	// memory.
	// +optional
	// +listType=map
	// +listMapKey=path
	// +kubebuilder:validation:MaxItems=32
	Files []File `json:"files,omitempty"`
}

// Word is one word of a command line.
//
// +kubebuilder:validation:MaxLength=8192
// +kubebuilder:validation:Pattern=`^[^\x00]*$`
type Word string

// ContainerLabel is the value of a container's label.
//
// +kubebuilder:validation:MaxLength=4096
type ContainerLabel string

// ServiceName is the name of a service.
//
// +kubebuilder:validation:MaxLength=63
type ServiceName string

// ObjectName is the name of a Secret or a ConfigMap.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`
type ObjectName string

// ObjectKey is a key in the data of a Secret or a ConfigMap.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]+$`
type ObjectKey string

// DevicePath is a device of the machine, as `podman run --device` takes it.
//
// +kubebuilder:validation:MaxLength=256
// +kubebuilder:validation:XValidation:rule="self.matches('^/dev(/[A-Za-z0-9._-]+)+(:/dev(/[A-Za-z0-9._-]+)+)?(:r?w?m?)?$') && !self.contains('/.')",message="device must be /dev/X[:/dev/Y][:rwm]"
type DevicePath string

// Bytes is an amount of memory.
//
// +kubebuilder:validation:MaxLength=20
// +kubebuilder:validation:XValidation:rule="self.matches('^[1-9][0-9]{0,14}(Ki|Mi|Gi)?$')",message="must be an amount of memory, such as 64Mi"
type Bytes string

// Delay is a duration.
//
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$') && duration(self) <= duration('1h')",message="must be a duration of at most 1h, such as 30s or 5m"
type Delay string

// Limits bound what a container may use.
type Limits struct {
	// cpus is a number of processors, such as 0.5.
	// +optional
	// +kubebuilder:validation:MaxLength=8
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9]{1,4}([.][0-9]{1,3})?$') && double(self) >= 0.01",message="cpus must be a number of processors, such as \"0.5\""
	CPUs string `json:"cpus,omitempty"`
	// memory is the most that the container may have, such as 128Mi.
	// +optional
	Memory Bytes `json:"memory,omitempty"`
}

// HealthCheck has a command or an HTTP request.
//
// +kubebuilder:validation:XValidation:rule="has(self.command) != has(self.http)",message="healthCheck needs either a command or http"
type HealthCheck struct {
	// command is run in the container; exit code 0 is healthy.
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Command []Word `json:"command,omitempty"`
	// http is a GET; 200 to 399 is healthy.
	// +optional
	HTTP *HTTPCheck `json:"http,omitempty"`
	// interval between two checks; the default is 30s, the least 1s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	Interval Delay `json:"interval,omitempty"`
	// timeout of one check; the default is 5s, the least 1s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s')",message="must be at least 1s"
	Timeout Delay `json:"timeout,omitempty"`
	// retries is how many failures in a row make the container unhealthy; the
	// default is 3.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Retries int32 `json:"retries,omitempty"`
	// startPeriod is the time after the start in which failures do not count.
	// +optional
	StartPeriod Delay `json:"startPeriod,omitempty"`
}

// HTTPCheck is a request that the agent makes from the device.
type HTTPCheck struct {
	// port of the container. It has to be published, unless networkMode is
	// host.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// path of the request; the default is /.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self.matches('^/[!-~]*$')",message="path must begin with / and have no blank"
	Path string `json:"path,omitempty"`
}

// Tmpfs is an empty directory in memory.
type Tmpfs struct {
	// +required
	Path Path `json:"path"`
	// size is the most that it may hold; the default is half of the memory.
	// +optional
	Size Bytes `json:"size,omitempty"`
}

// File puts keys of an object into a directory of the container.
//
// +kubebuilder:validation:XValidation:rule="has(self.secret) != has(self.configMap)",message="a file needs either a secret or a configMap"
type File struct {
	// path is the directory in the container.
	// +required
	Path Path `json:"path"`
	// secret is the name of a Secret in the Deployment's namespace.
	// +optional
	Secret ObjectName `json:"secret,omitempty"`
	// configMap is the name of a ConfigMap in the Deployment's namespace.
	// +optional
	ConfigMap ObjectName `json:"configMap,omitempty"`
	// keys are those that become files; all of them when it is empty.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Keys []ObjectKey `json:"keys,omitempty"`
}

// Port is one published port, as `podman run --publish` takes it.
//
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]{1,3}[.]){3}[0-9]{1,3}:|[[][0-9a-fA-F:.]+[]]:)?([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])(/tcp|/udp)?$')",message="port must be [IP:]HOST:CONTAINER[/tcp|/udp], each number between 1 and 65535, such as 8080:80"
type Port string

// EnvVar is one environment variable of a container: a value, or where it
// comes from.
//
// +kubebuilder:validation:XValidation:rule="!has(self.valueFrom) || !has(self.value) || size(self.value) == 0",message="a variable has a value or a valueFrom, not both"
type EnvVar struct {
	// +required
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",message="name must be letters, digits and _, and not start with a digit"
	Name string `json:"name"`
	// +optional
	// +kubebuilder:validation:MaxLength=32768
	// +kubebuilder:validation:Pattern=`^[^\x00]*$`
	Value string `json:"value"`
	// valueFrom is a key of a Secret or a ConfigMap.
	// +optional
	ValueFrom *ValueFrom `json:"valueFrom,omitempty"`
}

// ValueFrom names one key, as in a Pod.
//
// +kubebuilder:validation:XValidation:rule="has(self.secretKeyRef) != has(self.configMapKeyRef)",message="valueFrom needs either a secretKeyRef or a configMapKeyRef"
type ValueFrom struct {
	// +optional
	SecretKeyRef *KeyRef `json:"secretKeyRef,omitempty"`
	// +optional
	ConfigMapKeyRef *KeyRef `json:"configMapKeyRef,omitempty"`
}

// KeyRef is one key of an object in the Deployment's namespace.
type KeyRef struct {
	// +required
	Name ObjectName `json:"name"`
	// +required
	Key ObjectKey `json:"key"`
}

// Volume is a bind mount.
type Volume struct {
	// hostPath is on the device.
	// +required
	HostPath Path `json:"hostPath"`
	// +required
	ContainerPath Path `json:"containerPath"`
	// +optional
	ReadOnly bool `json:"readOnly,omitempty"`
}

// Path is an absolute path without "..", ".", "//", a trailing slash or a colon.
//
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="self.matches('^(/|(/[^/:]+)+)$') && !self.matches('/[.][.]?(/|$)')",message="path must be absolute and clean: no .., no //, no trailing slash, no colon"
type Path string
