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

// ConditionReady on a Device: heartbeats arrive.
const ConditionReady = "Ready"

// ConditionIdentityConflict on a Device: another machine claims its id.
const ConditionIdentityConflict = "IdentityConflict"

// The conditions of a Deployment.
const (
	ConditionAvailable    = "Available"    // every matched device runs it
	ConditionProgressing  = "Progressing"  // devices have yet to report
	ConditionDegraded     = "Degraded"     // devices failed, or the spec cannot be run
	ConditionNameConflict = "NameConflict" // an older Deployment elsewhere has the name
)

// The reasons of a Device's conditions.
const (
	ReasonHeartbeat         = "HeartbeatReceived"
	ReasonHeartbeatMissed   = "HeartbeatMissed"
	ReasonNeverSeen         = "NeverSeen"
	ReasonMachineIDMatches  = "MachineIDMatches"
	ReasonMachineIDMismatch = "MachineIDMismatch"
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
