package install

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	statusPort = 8081
	apiPort    = 8443
	secretRoot = "/etc/fleet/"
	auditRoot  = "/var/lib/fleet"
	// secretMode lets whatever user id the pod got read its secrets: OpenShift
	// assigns one that nobody knows before. Nothing but the pod sees them.
	secretMode = 0o444
)

// workload is what differs between the parts' Deployments.
type workload struct {
	name     string
	command  string
	replicas int32
	args     []string
	ports    []corev1.ContainerPort
	volumes  []corev1.Volume
	mounts   []corev1.VolumeMount
	cpu      string // request
	memory   string // request and limit
	recreate bool   // one at a time

	// annotations of its pods, which are made anew where these change.
	annotations map[string]string
}

// secret mounts a Secret at /etc/fleet/<at>.
func (w *workload) secret(at, name string) {
	w.volumes = append(w.volumes, corev1.Volume{Name: at, VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: name, DefaultMode: to(int32(secretMode))}}})
	w.mounts = append(w.mounts, corev1.VolumeMount{Name: at, MountPath: secretRoot + at, ReadOnly: true})
}

// publicCA mounts the authorities of the public certificates, and gives the path
// of the file; "" where those are public ones.
func (w *workload) publicCA(o *Options) string {
	if o.CA == "" {
		return ""
	}
	const at = "public-ca"
	if !slices.ContainsFunc(w.volumes, func(v corev1.Volume) bool { return v.Name == at }) {
		w.volumes = append(w.volumes, corev1.Volume{Name: at, VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: caMap}, DefaultMode: to(int32(secretMode))}}})
		w.mounts = append(w.mounts, corev1.VolumeMount{Name: at, MountPath: secretRoot + at, ReadOnly: true})
	}
	// Which file they trust is read when a part starts.
	w.annotations = map[string]string{configurationAnnotation: digest([]byte(o.CA))}
	return secretRoot + at + "/" + caKey
}

// configurationAnnotation of a pod names the content of what it reads but once.
const configurationAnnotation = "fleet.nationtech.io/configuration"

// digest is short: it tells contents apart, and protects nothing.
func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}

// deployment is a part as the restricted profile of the Pod Security Standards
// wants it, without a user id: the image has one, and OpenShift has its own.
func (o *Options) deployment(c Cluster, w workload) *appsv1.Deployment {
	meta := o.objectMeta(w.name, w.name)
	template := metav1.ObjectMeta{Labels: selector(w.name), Annotations: w.annotations}
	template.Labels[labelVersion] = labelValue(o.Version)
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment"},
		ObjectMeta: meta,
		Spec: appsv1.DeploymentSpec{
			Replicas: to(w.replicas),
			Selector: &metav1.LabelSelector{MatchLabels: selector(w.name)},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: to(intstr.FromInt32(0)), MaxSurge: to(intstr.FromInt32(1))}},
			Template: corev1.PodTemplateSpec{ObjectMeta: template, Spec: o.podSpec(w)},
		},
	}
	if w.recreate {
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	}
	if w.recreate && !c.OpenShift {
		// A volume belongs to root until somebody says otherwise; OpenShift does
		// so by itself, with a group that it chooses.
		d.Spec.Template.Spec.SecurityContext.FSGroup = to(int64(65532))
		d.Spec.Template.Spec.SecurityContext.FSGroupChangePolicy = to(corev1.FSGroupChangeOnRootMismatch)
	}
	return d
}

func (o *Options) podSpec(w workload) corev1.PodSpec {
	probe := func(path string, period int32) *corev1.Probe {
		return &corev1.Probe{PeriodSeconds: period, TimeoutSeconds: 5, FailureThreshold: 3, SuccessThreshold: 1,
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("status"), Scheme: corev1.URISchemeHTTP}}}
	}
	args := append([]string{w.command, fmt.Sprintf("--status-address=:%d", statusPort)}, w.args...)
	return corev1.PodSpec{
		ServiceAccountName:           w.name,
		AutomountServiceAccountToken: to(true),
		EnableServiceLinks:           to(false),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot:   to(true),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: selector(w.name)},
		}},
		Volumes: w.volumes,
		Containers: []corev1.Container{{
			Name: w.command, Image: o.image(), ImagePullPolicy: corev1.PullIfNotPresent, Args: args,
			Ports: append([]corev1.ContainerPort{{Name: "status", ContainerPort: statusPort, Protocol: corev1.ProtocolTCP}}, w.ports...),
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: to(false), ReadOnlyRootFilesystem: to(true),
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(w.cpu), corev1.ResourceMemory: resource.MustParse(w.memory)},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(w.memory)},
			},
			LivenessProbe: probe("/healthz", 10), ReadinessProbe: probe("/readyz", 5),
			VolumeMounts: w.mounts,
		}},
	}
}

// disruptionBudget keeps one of several pods while nodes are drained.
func (o *Options) disruptionBudget(name string) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: policyv1.SchemeGroupVersion.String(), Kind: "PodDisruptionBudget"},
		ObjectMeta: o.objectMeta(name, name),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: to(intstr.FromInt32(1)),
			Selector:       &metav1.LabelSelector{MatchLabels: selector(name)},
			// A pod that is not ready protects nothing.
			UnhealthyPodEvictionPolicy: to(policyv1.AlwaysAllow),
		},
	}
}

func to[T any](v T) *T { return &v }

// labelValue makes a version usable as the value of a label.
func labelValue(version string) string {
	out := []rune(version)
	for i, r := range out {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_", r) {
			out[i] = '-'
		}
	}
	if len(out) > 63 {
		out = out[:63]
	}
	return string(out)
}
