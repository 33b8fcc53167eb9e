package wire

import "time"

// DeviceState is everything a device reports of its deployments. It is one
// message under one key: a key per deployment would let a device fill the
// bucket with keys.
type DeviceState struct {
	SchemaVersion int    `json:"schemaVersion"`
	Device        string `json:"device"`
	// Revision is that of the manifest that the device last accepted; 0
	// before the first.
	Revision    uint64            `json:"revision"`
	At          time.Time         `json:"at"` // by the device's clock
	Deployments []DeploymentState `json:"deployments"`
	// Error is what keeps the device from working on its manifest, such as
	// a signature that does not match; empty when there is nothing.
	Error string `json:"error,omitempty"`
	// Warnings are what a person should see to and the device works on
	// regardless, such as a disk that is nearly full.
	Warnings []string `json:"warnings,omitempty"`
	// Refusal is the reason in Error, when the device refuses what it found
	// in the bucket; what it runs is what it accepted last.
	Refusal Refusal `json:"refusal,omitempty"`
}

// Phase is how far a deployment or a service is.
type Phase string

// The phases.
const (
	PhasePending  Phase = "Pending"  // being worked on: pulling, creating, waiting
	PhaseRunning  Phase = "Running"  // as desired; with a health check: and healthy
	PhaseFailed   Phase = "Failed"   // an attempt failed; it will be tried again
	PhaseStopped  Phase = "Stopped"  // stopped on purpose, or run to its end
	PhaseRemoving Phase = "Removing" // no longer desired, still there
)

// StoppedByHand is the message of a service that is PhaseStopped because of
// VerbStop, and stays so until VerbStart or VerbRestart.
const StoppedByHand = "stopped by hand"

// DeploymentState is one deployment on one device.
type DeploymentState struct {
	Name       string         `json:"name"`
	UID        string         `json:"uid,omitempty"` // of the Deployment object
	Generation int64          `json:"generation"`    // that this state is about
	Phase      Phase          `json:"phase"`
	Message    string         `json:"message,omitempty"` // the error text when Failed
	Since      time.Time      `json:"since"`             // when Phase was entered
	Services   []ServiceState `json:"services,omitempty"`
}

// ServiceState is one container of a deployment.
type ServiceState struct {
	Name        string     `json:"name"`
	Phase       Phase      `json:"phase"`
	Message     string     `json:"message,omitempty"`
	ContainerID string     `json:"containerId,omitempty"`
	Image       string     `json:"image,omitempty"`
	ImageDigest string     `json:"imageDigest,omitempty"`
	StartedAt   *time.Time `json:"startedAt,omitempty"`
	Health      Health     `json:"health,omitempty"` // empty without a health check, or when it does not run
	// Reason is why Phase is PhaseFailed; empty where no name fits.
	Reason Reason `json:"reason,omitempty"`
}

// Reason names why a service failed, for programs; the message is for people.
// More may come: one that is not known says no more than PhaseFailed does.
type Reason string

// The reasons.
const (
	ReasonOutOfMemory       Reason = "OutOfMemory"       // killed at its memory limit, or the device's
	ReasonCrashLoop         Reason = "CrashLoop"         // exits each time soon after it was started
	ReasonExited            Reason = "Exited"            // with a code that is not 0
	ReasonUnhealthy         Reason = "Unhealthy"         // its health check fails
	ReasonPullFailed        Reason = "PullFailed"        // the registry does not answer, refuses, or has no such image
	ReasonImageNotPresent   Reason = "ImageNotPresent"   // and pullPolicy is never
	ReasonWrongArchitecture Reason = "WrongArchitecture" // the image is for other processors
	ReasonDiskFull          Reason = "DiskFull"          // no room for the image, or for what Podman has to note
	ReasonNameTaken         Reason = "NameTaken"         // by a container that is not this service's
)

// Health is what a service's health check says.
type Health string

// The states of health. A service that is starting is PhasePending, one that
// is unhealthy PhaseFailed.
const (
	HealthStarting  Health = "starting"
	HealthHealthy   Health = "healthy"
	HealthUnhealthy Health = "unhealthy"
)

// MaxMessageBytes bounds every message in a report, so that one device's state
// fits BucketState.
const MaxMessageBytes = 1024

// ClipMessage shortens an error text to MaxMessageBytes.
func ClipMessage(s string) string { return clip(s, MaxMessageBytes) }

// DeviceInfo is what a device is. It changes rarely: it is written on start
// and when something in it changed.
type DeviceInfo struct {
	SchemaVersion int    `json:"schemaVersion"`
	Device        string `json:"device"`
	// MachineID is a hash derived from /etc/machine-id (machine-id(5)
	// forbids to publish the id itself). It tells two machines apart that
	// claim one device id.
	MachineID string            `json:"machineId"`
	Labels    map[string]string `json:"labels,omitempty"`
	Inventory Inventory         `json:"inventory"`
	StartedAt time.Time         `json:"startedAt"` // of the agent
	// SigningKeys are the KeyIDs of the keys that the device trusts, and
	// KeysRevision is that of the KeySet which they came with; 0 when
	// onboarding pinned them. An agent that knows no key sets says neither.
	SigningKeys  []string `json:"signingKeys,omitempty"`
	KeysRevision uint64   `json:"keysRevision,omitempty"`
}

// Inventory is the hardware and software of a device.
type Inventory struct {
	Hostname        string `json:"hostname,omitempty"`
	OS              string `json:"os,omitempty"`           // PRETTY_NAME of os-release(5)
	Kernel          string `json:"kernel,omitempty"`       // uname -r
	Architecture    string `json:"architecture,omitempty"` // GOARCH names: amd64, arm64, arm
	Model           string `json:"model,omitempty"`        // device tree or DMI
	CPUs            int    `json:"cpus,omitempty"`
	MemoryBytes     uint64 `json:"memoryBytes,omitempty"`
	DiskBytes       uint64 `json:"diskBytes,omitempty"` // of the file system with the agent's state
	AgentVersion    string `json:"agentVersion,omitempty"`
	PodmanVersion   string `json:"podmanVersion,omitempty"`
	BootID          string `json:"bootId,omitempty"` // /proc/sys/kernel/random/boot_id
	CgroupsVersion  string `json:"cgroupsVersion,omitempty"`
	ContainerEngine string `json:"containerEngine,omitempty"` // "podman", or "none" without a runtime
}

// How often a device that has nothing to say is heard of. An idle device may
// cost at most 15 MB a month, 5.8 bytes a second: each of these is a few
// hundred bytes with TLS, TCP and IP. That a connection is there, and that it
// ended, NATS says by itself; heartbeats are the backstop.
const (
	// HeartbeatInterval is the time between two heartbeats of a device.
	HeartbeatInterval = 5 * time.Minute
	// PingInterval is when a NATS server asks a connection that has been
	// silent for so long whether anybody is there. After a second interval
	// without an answer it is closed: a device that lost its power, which
	// ends no connection, is noticed within three of them, or 6 minutes.
	PingInterval = 2 * time.Minute
	// RefreshInterval is the time between two looks at, or reports of, what
	// has not changed, for the case that a message was lost.
	RefreshInterval = time.Hour
)

// Heartbeat says that an agent is alive.
type Heartbeat struct {
	SchemaVersion int       `json:"schemaVersion"`
	Device        string    `json:"device"`
	At            time.Time `json:"at"` // by the device's clock
	// Revision is that of the manifest in force, so that a control plane
	// sees a device that missed a hint.
	Revision uint64 `json:"revision"`
}
