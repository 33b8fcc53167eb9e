package install

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FieldManager owns what we apply.
const FieldManager = "fleetctl-server-install"

// Labels of everything that an installation is made of.
const (
	labelName      = "app.kubernetes.io/name"
	labelInstance  = "app.kubernetes.io/instance"
	labelComponent = "app.kubernetes.io/component"
	labelPartOf    = "app.kubernetes.io/part-of"
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelVersion   = "app.kubernetes.io/version"

	partOf    = "fleet"
	managedBy = "fleetctl"
)

// The parts, and the name of each one's objects.
const (
	operatorName  = "fleet-operator"
	calloutName   = "fleet-callout"
	dashboardName = "fleet-dashboard"
	natsName      = "nats"

	signingSecret  = "fleet-signing"
	natsTLSSecret  = "fleet-nats-tls"
	passwordSecret = "fleet-device-passwords"
	adminSecret    = "fleet-admin-token"
	publicTLS      = "fleet-public-tls"
	optionsMap     = "fleet-install"
	accountsMap    = "fleet-nats-accounts"
	caMap          = "fleet-public-ca"
)

// objectMeta names an object in the namespace of the installation.
func (o *Options) objectMeta(name, component string) metav1.ObjectMeta {
	m := clusterMeta(name, component)
	m.Namespace = o.Namespace
	return m
}

func clusterMeta(name, component string) metav1.ObjectMeta {
	labels := map[string]string{labelPartOf: partOf, labelManagedBy: managedBy}
	if component != "" {
		labels[labelComponent] = component
	}
	return metav1.ObjectMeta{Name: name, Labels: labels}
}

// selector picks the pods of a part, for good: it cannot be changed later.
func selector(name string) map[string]string {
	return map[string]string{labelName: name, labelPartOf: partOf}
}
