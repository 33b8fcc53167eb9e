// Package v1alpha1 is the fleet's Kubernetes API: a Deployment says which
// containers run on which devices, a Device is one enrolled machine. It owns
// the shape of both, the rules that the API server enforces on them, and their
// constants; it does no I/O. The CRDs in operator/crd are generated from it.
//
// Every field is of a type that decodes whatever the schema lets through: a
// single object that does not decode would stop a client's whole list.
//
// +kubebuilder:object:generate=true
// +groupName=fleet.nationtech.io
package v1alpha1

//go:generate go tool controller-gen object paths=.
