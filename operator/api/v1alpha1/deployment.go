package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Deployment says which containers run on which devices.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=fleetdep,categories=fleet
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.ready`,description="Devices that run it / devices that match"
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.aggregate.failed`
// +kubebuilder:printcolumn:name="Pending",type=integer,JSONPath=`.status.aggregate.pending`
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.spec.score.data.services[*].image`
// +kubebuilder:printcolumn:name="Rollout",type=string,JSONPath=`.status.rollout.phase`,description="How far the rollout is; empty without spec.rollout"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Available")].reason`
// +kubebuilder:printcolumn:name="Last Error",type=string,priority=1,JSONPath=`.status.aggregate.lastError.message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",message="metadata.name must be one RFC 1123 label of at most 63 characters: a-z, 0-9 and -, with a letter or digit at both ends"
type Deployment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec DeploymentSpec `json:"spec"`
	// status is what the devices report.
	// ---
	// It is one value to the API server, as a Device's is.
	// +structType=atomic
	// +optional
	Status DeploymentStatus `json:"status,omitempty"`
}

// DeploymentList is a list of Deployments.
//
// +kubebuilder:object:root=true
type DeploymentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Deployment `json:"items"`
}

// DeploymentSpec is what to run, and where.
type DeploymentSpec struct {
	// targetSelector chooses the devices by their labels. It may not be
	// empty: to mean every device, ask that the label device-id exists.
	// +required
	TargetSelector LabelSelector `json:"targetSelector"`
	// score says what to run.
	// +required
	Score Score `json:"score"`
	// rollout says how a changed score reaches the devices. Without it all of
	// them get it at once.
	// +optional
	Rollout *Rollout `json:"rollout,omitempty"`
	// revisionHistoryLimit is how many old revisions are kept to go back to;
	// 10 when it is not set.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self >= 0 && self <= 100",message="revisionHistoryLimit must be between 0 and 100"
	RevisionHistoryLimit *int32 `json:"revisionHistoryLimit,omitempty"`
}

// DeploymentStatus is what the devices report.
type DeploymentStatus struct {
	// observedGeneration is the generation that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ready is "succeeded/matched", such as "1/1".
	// +optional
	Ready string `json:"ready,omitempty"`
	// +optional
	Aggregate Aggregate `json:"aggregate,omitempty"`
	// rollout is how far the rollout is; absent without spec.rollout.
	// +optional
	Rollout *RolloutStatus `json:"rollout,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Aggregate sums up the reports of the devices that match.
// matchedDeviceCount = succeeded + failed + pending.
type Aggregate struct {
	MatchedDeviceCount int32 `json:"matchedDeviceCount"`
	// succeeded counts devices that run this generation as asked.
	Succeeded int32 `json:"succeeded"`
	// failed counts devices whose last attempt at this generation failed.
	Failed int32 `json:"failed"`
	// pending counts all others: working on it, or not heard of.
	Pending int32 `json:"pending"`
	// lastError is the most recent failure among the failed devices.
	// +optional
	LastError *DeviceError `json:"lastError,omitempty"`
}

// DeviceError is why a device failed.
type DeviceError struct {
	DeviceID string `json:"deviceId"`
	Message  string `json:"message"`
	// at is when the device entered that state, by its own clock.
	At metav1.Time `json:"at"`
}
