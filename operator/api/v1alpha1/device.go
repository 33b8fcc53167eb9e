package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Device is one machine of the fleet. Enrolment makes it; the operator fills in
// what the agent reports, and labels that a person sets survive the agent's.
// Deleting it off-boards the device.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=fleetdev,categories=fleet
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Connected",type=string,JSONPath=`.status.conditions[?(@.type=="Connected")].status`
// +kubebuilder:printcolumn:name="Up-To-Date",type=string,JSONPath=`.status.conditions[?(@.type=="UpToDate")].status`
// +kubebuilder:printcolumn:name="Arch",type=string,JSONPath=`.status.inventory.architecture`
// +kubebuilder:printcolumn:name="Agent",type=string,JSONPath=`.status.inventory.agentVersion`
// +kubebuilder:printcolumn:name="Heartbeat",type=date,JSONPath=`.status.lastHeartbeat`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Model",type=string,priority=1,JSONPath=`.status.inventory.model`
// +kubebuilder:printcolumn:name="OS",type=string,priority=1,JSONPath=`.status.inventory.os`
// +kubebuilder:printcolumn:name="In The Way",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="UpToDate")].message`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",message="metadata.name (the device id) must be one RFC 1123 label of at most 63 characters: a-z, 0-9 and -, with a letter or digit at both ends"
type Device struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec DeviceSpec `json:"spec,omitempty"`
	// status is what is known of a device.
	// ---
	// It has one owner, the operator, and so is one value to the API server: with
	// an owner on record for each field, managedFields were over half of a Device.
	// +structType=atomic
	// +optional
	Status DeviceStatus `json:"status,omitempty"`
}

// DeviceList is a list of Devices.
//
// +kubebuilder:object:root=true
type DeviceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Device `json:"items"`
}

// DeviceSpec is the registration of a device: fleet-server's API writes it when
// a device is enrolled or revoked. It is what decides whether the device may
// connect: only one that is enrolled and not revoked does.
type DeviceSpec struct {
	// machineId names the machine that has this id: a hash of its machine-id.
	// Another machine is refused, unless it is enrolled to take the place of
	// this one, or this field was cleared.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	MachineID string `json:"machineId,omitempty"`
	// enrolled is when the machine was given this id. Without it the device
	// may not connect.
	// +optional
	Enrolled *metav1.Time `json:"enrolled,omitempty"`
	// sealingKey is the device's X25519 public key, in base64: secrets for
	// this device are sealed to it.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	SealingKey string `json:"sealingKey,omitempty"`
	// subject is the user at the issuer that this device signs in as: the
	// claim sub of its tokens. Such a token is this device's, and this
	// device's tokens are all such. Empty where the device has no account.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Subject string `json:"subject,omitempty"`
	// revoked is since when the device is shut out. Enrolling it again lifts
	// that.
	// +optional
	Revoked *metav1.Time `json:"revoked,omitempty"`
}

// MayConnect says whether the device is let in.
func (d *Device) MayConnect() bool {
	return d.Spec.Enrolled != nil && d.Spec.Revoked == nil && d.DeletionTimestamp == nil
}

// DeviceStatus is what is known of a device.
type DeviceStatus struct {
	// lastHeartbeat is renewed every few minutes while heartbeats arrive;
	// the Ready condition is exact.
	// +optional
	LastHeartbeat *metav1.Time `json:"lastHeartbeat,omitempty"`
	// +optional
	Inventory Inventory `json:"inventory,omitempty"`
	// signingKeys are the ids of the control plane's keys that the device
	// says it trusts; empty when its agent is too old to say.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=4
	// +optional
	SigningKeys []string `json:"signingKeys,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Inventory is the hardware and software of a device.
type Inventory struct {
	// +optional
	Hostname string `json:"hostname,omitempty"`
	// +optional
	OS string `json:"os,omitempty"`
	// +optional
	Kernel string `json:"kernel,omitempty"`
	// architecture is a GOARCH: amd64, arm64, arm.
	// +optional
	Architecture string `json:"architecture,omitempty"`
	// +optional
	Model string `json:"model,omitempty"`
	// +optional
	CPUs int64 `json:"cpus,omitempty"`
	// +optional
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// diskBytes is the size of the file system with the agent's state.
	// +optional
	DiskBytes int64 `json:"diskBytes,omitempty"`
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`
	// +optional
	PodmanVersion string `json:"podmanVersion,omitempty"`
	// +optional
	BootID string `json:"bootId,omitempty"`
	// +optional
	CgroupsVersion string `json:"cgroupsVersion,omitempty"`
	// +optional
	ContainerEngine string `json:"containerEngine,omitempty"`
}
