package v1alpha1

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
}

// Port is one published port, as `podman run --publish` takes it.
//
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule="self.matches('^(([0-9]{1,3}[.]){3}[0-9]{1,3}:|[[][0-9a-fA-F:.]+[]]:)?([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])(/tcp|/udp)?$')",message="port must be [IP:]HOST:CONTAINER[/tcp|/udp], each number between 1 and 65535, such as 8080:80"
type Port string

// EnvVar is one environment variable of a container.
type EnvVar struct {
	// +required
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_]*$')",message="name must be letters, digits and _, and not start with a digit"
	Name string `json:"name"`
	// +optional
	// +kubebuilder:validation:MaxLength=32768
	// +kubebuilder:validation:Pattern=`^[^\x00]*$`
	Value string `json:"value"`
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
