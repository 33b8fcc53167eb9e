package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of the types in this package.
var GroupVersion = schema.GroupVersion{Group: "fleet.nationtech.io", Version: "v1alpha1"}

// AddToScheme registers the types; a client needs it to decode them.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Deployment{}, &DeploymentList{}, &Device{}, &DeviceList{}, &DeploymentRevision{}, &DeploymentRevisionList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
