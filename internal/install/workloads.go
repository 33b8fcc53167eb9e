package install

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func (o *Options) operator(c Cluster) []client.Object {
	w := workload{name: operatorName, command: "operator", replicas: 2, cpu: "100m", memory: "1Gi"}
	w.secret("keys", operatorName)
	w.secret("signing", signingSecret)
	w.args = append(o.natsArgs(&w),
		"--signing-dir="+secretRoot+"signing", "--namespace="+o.Namespace,
		"--replicas="+strconv.Itoa(o.NATSReplicas), "--devices="+strconv.Itoa(o.Devices))
	return []client.Object{o.deployment(c, w), o.disruptionBudget(operatorName)}
}

func (o *Options) callout(c Cluster) []client.Object {
	w := workload{name: calloutName, command: "callout", replicas: 2, cpu: "100m", memory: "256Mi"}
	w.secret("keys", calloutName)
	w.args = append(o.natsArgs(&w), o.issuerArgs(&w)...)
	if o.Passwords {
		w.secret("passwords", passwordSecret)
		w.args = append(w.args, "--fleet-key="+secretRoot+"passwords/"+keyFleet)
	}
	return []client.Object{o.deployment(c, w), o.disruptionBudget(calloutName)}
}

// dashboard has a volume for the audit log, which one process at a time writes:
// there is one of it.
func (o *Options) dashboard(c Cluster) []client.Object {
	w := workload{name: dashboardName, command: "dashboard", replicas: 1, cpu: "100m", memory: "512Mi", recreate: true,
		ports: []corev1.ContainerPort{{Name: "api", ContainerPort: apiPort, Protocol: corev1.ProtocolTCP}}}
	w.secret("keys", dashboardName)
	w.secret("admin", adminSecret)
	w.volumes = append(w.volumes, corev1.Volume{Name: "audit", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: auditClaim}}})
	w.mounts = append(w.mounts, corev1.VolumeMount{Name: "audit", MountPath: auditRoot})
	w.args = append(o.natsArgs(&w), o.issuerArgs(&w)...)
	w.args = append(w.args, fmt.Sprintf("--listen=:%d", apiPort), "--signing-secret="+o.Namespace+"/"+signingSecret,
		"--audit-dir="+auditRoot+"/audit", "--admin-token="+secretRoot+"admin/"+keyAdminToken,
		"--device-nats-url="+strings.Join(o.DeviceNATSURLs(), ","))
	w.args = append(w.args, "--public-url="+o.APIURL(), "--session-key="+secretRoot+"keys/"+keySession)
	if o.DashboardID != "" {
		w.args = append(w.args, "--dashboard-client-id="+o.DashboardID)
	}
	if o.natsEndsTLS() {
		w.args = append(w.args, "--device-ca="+secretRoot+"nats-ca/ca.crt")
	} else if ca := w.publicCA(o); ca != "" {
		w.args = append(w.args, "--device-ca="+ca)
	}
	if o.KubernetesURL != "" {
		w.args = append(w.args, "--kubernetes-url="+o.KubernetesURL)
	}
	if o.Passwords {
		w.secret("passwords", passwordSecret)
		w.args = append(w.args, "--fleet-key="+secretRoot+"passwords/"+keyFleet)
	}
	if o.endsTLS() {
		w.secret("tls", o.publicTLSSecret())
		w.args = append(w.args, "--tls-cert="+secretRoot+"tls/tls.crt", "--tls-key="+secretRoot+"tls/tls.key")
	}
	return []client.Object{o.auditClaim(), o.deployment(c, w)}
}

// endsTLS says whether the API does so itself, having nothing before it that does.
func (o *Options) endsTLS() bool {
	return o.Expose == ExposeLoadBalancer || o.Expose == ExposeNodePort
}

func (o *Options) natsArgs(w *workload) []string {
	args := []string{"--keys-dir=" + secretRoot + "keys", "--nats-url=" + strings.Join(o.partNATSURLs(), ",")}
	if o.WithNATS {
		// Only the certificate of the authority: the key is the servers'.
		w.volumes = append(w.volumes, corev1.Volume{Name: "nats-ca", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: natsTLSSecret, DefaultMode: to(int32(secretMode)),
				Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}}})
		w.mounts = append(w.mounts, corev1.VolumeMount{Name: "nats-ca", MountPath: secretRoot + "nats-ca", ReadOnly: true})
		args = append(args, "--nats-ca="+secretRoot+"nats-ca/ca.crt")
	} else if ca := w.publicCA(o); ca != "" {
		args = append(args, "--nats-ca="+ca)
	}
	return args
}

func (o *Options) issuerArgs(w *workload) []string {
	args := []string{"--issuer=" + o.IssuerURL(), "--project-id=" + o.ProjectID}
	if ca := w.publicCA(o); ca != "" {
		args = append(args, "--issuer-ca="+ca)
	}
	if o.ClientID != "" {
		args = append(args, "--client-id="+o.ClientID)
	}
	return args
}

const (
	auditClaim   = "fleet-audit"
	auditStorage = "5Gi" // about 20 million records
)

func (o *Options) auditClaim() *corev1.PersistentVolumeClaim {
	pvc := &corev1.PersistentVolumeClaim{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: o.objectMeta(auditClaim, dashboardName),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(auditStorage)}},
		},
	}
	if o.StorageClass != "" {
		pvc.Spec.StorageClassName = to(o.StorageClass)
	}
	return pvc
}
