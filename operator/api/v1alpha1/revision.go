package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeploymentRevision is a score that a Deployment has, or had: its history. The
// operator makes it and removes the oldest; it goes with its Deployment.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=fleetrev,categories=fleet
// +kubebuilder:printcolumn:name="Deployment",type=string,JSONPath=`.metadata.labels.fleet\.nationtech\.io/deployment`
// +kubebuilder:printcolumn:name="Revision",type=integer,JSONPath=`.spec.revision`
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.spec.score.data.services[*].image`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type DeploymentRevision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec DeploymentRevisionSpec `json:"spec"`
}

// DeploymentRevisionList is a list of DeploymentRevisions.
//
// +kubebuilder:object:root=true
type DeploymentRevisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DeploymentRevision `json:"items"`
}

// DeploymentRevisionSpec is one entry of a history.
type DeploymentRevisionSpec struct {
	// revision is its number. The highest is the newest: a revision that the
	// Deployment goes back to gets a new number.
	// +required
	Revision int64 `json:"revision"`
	// generation is that of the Deployment when it first had this score.
	// Devices know the revision by it; it never changes.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="generation cannot be changed: devices know the revision by it"
	Generation int64 `json:"generation"`
	// score is what was to run.
	// +required
	Score RevisionScore `json:"score"`
}

// RevisionScore is a Score as it was accepted: no rule of today refuses what
// was good once.
type RevisionScore struct {
	// +required
	Type string `json:"type"`
	// +required
	// +kubebuilder:pruning:PreserveUnknownFields
	Data runtime.RawExtension `json:"data"`
	// +optional
	RestartedAt *metav1.Time `json:"restartedAt,omitempty"`
}
