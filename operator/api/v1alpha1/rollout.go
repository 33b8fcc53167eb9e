package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Rollout says how a changed score reaches the devices: so many at a time, and
// on to the next only when those are well. Devices that are offline hold
// nothing up: they are left as they are and catch up when they return.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minReadySeconds) || !has(self.progressDeadlineSeconds) || self.progressDeadlineSeconds > self.minReadySeconds",fieldPath=".progressDeadlineSeconds",message="progressDeadlineSeconds must be greater than minReadySeconds: a device gets that long to be ready for minReadySeconds"
type Rollout struct {
	// maxUnavailable bounds how many connected devices of a group may be not
	// running at a time for the rollout to disturb another: a number, or a
	// percentage of the group's connected devices, rounded down, one at least.
	// +optional
	// +kubebuilder:default="10%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 1000000 : self.matches('^([1-9][0-9]?|100)%$')",message="maxUnavailable must be a number of devices from 1, such as 5, or a percentage from 1% to 100%, such as 10%"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`
	// batch is how many devices of a group get the revision before those
	// have to be ready: a number, or a percentage of the group's connected
	// devices, rounded down, one at least. The first batch is the canary.
	// +optional
	// +kubebuilder:default="10%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 1000000 : self.matches('^([1-9][0-9]?|100)%$')",message="batch must be a number of devices from 1, such as 5, or a percentage from 1% to 100%, such as 10%"
	Batch *intstr.IntOrString `json:"batch,omitempty"`
	// groupBy is a label of the devices, such as site. Devices with the same
	// value are a group with batches and a limit of its own.
	// +optional
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$')",message="groupBy must be the key of a label, [PREFIX/]NAME, such as site"
	GroupBy string `json:"groupBy,omitempty"`
	// minReadySeconds is how long a device has to run the revision without
	// a break to count as ready.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 86400",message="minReadySeconds must be between 0 and 86400"
	MinReadySeconds *int32 `json:"minReadySeconds,omitempty"`
	// progressDeadlineSeconds is how long a connected device may take to be
	// ready before it counts as failed.
	// +optional
	// +kubebuilder:default=600
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 86400",message="progressDeadlineSeconds must be between 1 and 86400"
	ProgressDeadlineSeconds *int32 `json:"progressDeadlineSeconds,omitempty"`
	// maxFailures is how many devices may fail before the rollout stops.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 1000000",message="maxFailures must be between 0 and 1000000"
	MaxFailures *int32 `json:"maxFailures,omitempty"`
	// paused stops it where it is: no device gets another revision until it
	// is false again.
	// +optional
	Paused bool `json:"paused,omitempty"`
	// autoRollback brings the devices back to the last good revision when the
	// rollout stops for its failures. The spec stays as it is.
	// +optional
	AutoRollback bool `json:"autoRollback,omitempty"`
	// attempt is raised to try a rollout again that stopped for its failures,
	// as `fleetctl rollout retry` does.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0",message="attempt must not be negative"
	Attempt int64 `json:"attempt,omitempty"`
}

// RolloutPhase is how far a rollout is.
type RolloutPhase string

// The phases.
const (
	RolloutProgressing RolloutPhase = "Progressing" // devices are being brought to the revision
	RolloutPaused      RolloutPhase = "Paused"      // spec.rollout.paused
	RolloutComplete    RolloutPhase = "Complete"    // every connected device was brought to it
	RolloutFailed      RolloutPhase = "Failed"      // too many failed: no further device gets it
	RolloutRollingBack RolloutPhase = "RollingBack" // devices are being brought back to the last good revision
	RolloutRolledBack  RolloutPhase = "RolledBack"  // every connected device runs the last good revision
)

// RolloutStatus is how far the rollout of the present score is. Its counts are
// of the devices that match.
type RolloutStatus struct {
	// observedGeneration is the generation of the Deployment that this is about.
	// +optional
	ObservedGeneration int64        `json:"observedGeneration,omitempty"`
	Phase              RolloutPhase `json:"phase"`
	// message says what the rollout waits for, or why it stopped.
	// +optional
	Message string `json:"message,omitempty"`
	// revision is the number of the DeploymentRevision that is rolled out,
	// which is that of the present score.
	Revision int64 `json:"revision"`
	// revisionName is the name of that DeploymentRevision.
	RevisionName string `json:"revisionName"`
	// stableRevision is the last good revision: the last whose rollout was
	// completed. Devices that join meanwhile get it. 0: none yet.
	// +optional
	StableRevision int64 `json:"stableRevision,omitempty"`
	// +optional
	StableRevisionName string `json:"stableRevisionName,omitempty"`
	// attempt is that of the spec which this status is about.
	// +optional
	Attempt int64 `json:"attempt,omitempty"`
	// startedAt is when this revision began to be rolled out.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// finishedAt is when it was complete, failed or was rolled back.
	// +optional
	FinishedAt *metav1.Time `json:"finishedAt,omitempty"`

	RolloutCounts `json:",inline"`

	// groups are the first 32 groups of spec.rollout.groupBy, those with
	// devices left to do first.
	// +optional
	// +listType=map
	// +listMapKey=name
	Groups []RolloutGroup `json:"groups,omitempty"`
	// waitingFor names up to eight devices that hold the rollout up or
	// failed, and why.
	// +optional
	// +listType=atomic
	WaitingFor []RolloutDevice `json:"waitingFor,omitempty"`
}

// RolloutCounts are devices of a rollout or of one group of it. updated = ready
// + failed + those in progress.
type RolloutCounts struct {
	// batch is the number of the current batch, from 1.
	Batch int32 `json:"batch"`
	// devices match.
	Devices int32 `json:"devices"`
	// updated were told to run the revision.
	Updated int32 `json:"updated"`
	// ready run it, for minReadySeconds.
	Ready int32 `json:"ready"`
	// failed were told to run it and do not.
	Failed int32 `json:"failed"`
	// offline are not connected and have yet to run it; they hold nothing up.
	Offline int32 `json:"offline"`
}

// RolloutGroup is one group of spec.rollout.groupBy.
type RolloutGroup struct {
	// name is the value of the label; empty for devices without it.
	Name          string `json:"name"`
	RolloutCounts `json:",inline"`
}

// RolloutDevice is a device that a rollout waits for.
type RolloutDevice struct {
	DeviceID string `json:"deviceId"`
	// reason is one word: Failed, DeadlineExceeded, NotReady, Lost.
	Reason string `json:"reason"`
	// +optional
	Message string `json:"message,omitempty"`
}
