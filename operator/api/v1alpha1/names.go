package v1alpha1

// Labels, finalizers and field managers.
const (
	// LabelDeviceID is on every Device and holds its name, so that a
	// selector can name one device or, with Exists, all of them.
	LabelDeviceID = "device-id"

	// LabelDeployment is on every DeploymentRevision and holds the name of its
	// Deployment.
	LabelDeployment = "fleet.nationtech.io/deployment"

	// FinalizerDesiredState keeps a Deployment until no device is told to
	// run it any more.
	FinalizerDesiredState = "fleet.nationtech.io/desired-state"
	// FinalizerOffboard keeps a Device until its keys are gone.
	FinalizerOffboard = "fleet.nationtech.io/offboard"

	// ManagerAgent owns what a device says about itself on its Device: the
	// labels of its configuration.
	ManagerAgent = "fleet-agent"
	// ManagerServer owns the registration of a Device.
	ManagerServer = "fleet-server"
	// ManagerOperator owns status and finalizers.
	ManagerOperator = "fleet-operator"
	// ManagerCLI owns what `fleetctl deploy` applies.
	ManagerCLI = "fleetctl"
)

// VerbEnroll on devices is what somebody needs, beside update, to change the
// registration in a Device's spec with Kubernetes' own means.
const VerbEnroll = "enroll"

// The conditions of a Device.
const (
	ConditionReady     = "Ready"     // it is let in, connected, and its agent gives signs of life
	ConditionConnected = "Connected" // it has a connection to NATS
	ConditionUpToDate  = "UpToDate"  // it runs what it should
	// ConditionIdentityConflict is there from the first report of another
	// machine that claims the device's id.
	ConditionIdentityConflict = "IdentityConflict"
	// ConditionWarning is there from the first warning of the agent: True
	// while there is something that a person should see to, such as a disk
	// that is nearly full, and that the device works on regardless.
	ConditionWarning = "Warning"
)

// The conditions of a Deployment.
const (
	ConditionAvailable    = "Available"    // every matched device runs it
	ConditionProgressing  = "Progressing"  // devices have yet to report
	ConditionDegraded     = "Degraded"     // devices failed, or the spec cannot be run
	ConditionNameConflict = "NameConflict" // an older Deployment elsewhere has the name
)

// The reasons of a Device's condition Ready.
const (
	ReasonHeartbeat       = "HeartbeatReceived" // True
	ReasonHeartbeatMissed = "HeartbeatMissed"   // three in a row, though it may be connected
	ReasonNeverSeen       = "NeverSeen"         // no heartbeat yet
	ReasonRevoked         = "Revoked"           // spec.revoked is set
	ReasonNotEnrolled     = "NotEnrolled"       // spec.enrolled is not
	ReasonDisconnected    = "Disconnected"      // also of Connected
)

// The reasons of a Device's condition Connected, beside Disconnected. Where
// nobody can tell, as while NATS is away, the condition stays as it was.
const (
	ReasonConnected      = "Connected" // True
	ReasonNeverConnected = "NeverConnected"
)

// The reasons of a Device's condition UpToDate. While many devices change at the
// same time it lags behind the Deployments' aggregates, which are exact.
const (
	ReasonUpToDate           = "UpToDate"           // True
	ReasonManifestPending    = "ManifestPending"    // it has yet to fetch its newest desired state
	ReasonManifestRefused    = "ManifestRefused"    // it cannot work on it; the message says why
	ReasonDeploymentsPending = "DeploymentsPending" // the message names them
	ReasonWaitingForRollout  = "WaitingForRollout"  // it does what it was told; a rollout has not come to it
	ReasonDeploymentsFailed  = "DeploymentsFailed"  // the message names them, and says why
	ReasonNoReport           = "NoReport"           // Unknown
)

// The reasons of a Device's condition Warning.
const (
	ReasonAgentWarns = "AgentWarns" // the message is what it warns of
	ReasonNoWarning  = "NoWarning"
)

// The reasons of a Device's condition IdentityConflict.
const (
	ReasonMachineIDMatches  = "MachineIDMatches"
	ReasonMachineIDMismatch = "MachineIDMismatch"
)

// Reasons of events about a Device, beside those of its conditions.
const (
	EventEnrolled = "Enrolled"
	EventFlapping = "ConnectionFlapping"
)

// The reasons of a Deployment's conditions.
const (
	ReasonAllRunning     = "AllDevicesRunning"
	ReasonNoMatch        = "NoDeviceMatches"
	ReasonDevicesPending = "DevicesPending"
	ReasonDevicesFailed  = "DevicesFailed"
	ReasonSettled        = "AllDevicesReported"
	ReasonAsDesired      = "AsDesired"
	ReasonInvalidSpec    = "InvalidSpec"
	ReasonNameTaken      = "NameTaken"
	ReasonNameUnique     = "NameUnique"

	ReasonRollingOut      = "RollingOut"
	ReasonRolloutPaused   = "RolloutPaused"
	ReasonRolloutComplete = "RolloutComplete"
	ReasonRolloutFailed   = "RolloutFailed"
	ReasonRollingBack     = "RollingBack"
	ReasonRolledBack      = "RolledBack"
)
