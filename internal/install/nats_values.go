package install

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
)

// NATS' official chart, and the version whose values these are.
const (
	natsRepository   = "https://nats-io.github.io/k8s/helm/charts/"
	natsChartVersion = "2.12.3"
)

// natsValues are the values of that chart (github.com/nats-io/k8s), as far as
// they are ours.
type natsValues struct {
	FullnameOverride string       `json:"fullnameOverride"`
	Config           natsConfig   `json:"config"`
	TLSCA            natsTLS      `json:"tlsCA"` // servers check each other by it
	Container        natsPatch    `json:"container"`
	Reloader         natsPatch    `json:"reloader"`
	NATSBox          natsEnabled  `json:"natsBox"` // its pod would have a user of its own
	PodTemplate      natsTemplate `json:"podTemplate"`
	Service          *natsService `json:"service,omitempty"`
	Budget           natsEnabled  `json:"podDisruptionBudget"`
}

type natsEnabled struct {
	Enabled bool `json:"enabled"`
}

type natsConfig struct {
	Cluster struct {
		Enabled  bool    `json:"enabled"`
		Replicas int     `json:"replicas"`
		TLS      natsTLS `json:"tls"`
	} `json:"cluster"`
	NATS struct {
		TLS natsTLS `json:"tls"`
	} `json:"nats"`
	JetStream struct {
		Enabled   bool `json:"enabled"`
		FileStore struct {
			PVC struct {
				Size         string `json:"size"`
				StorageClass string `json:"storageClassName,omitempty"`
			} `json:"pvc"`
		} `json:"fileStore"`
	} `json:"jetstream"`
	// The websocket is plain: the ingress before it ends TLS.
	Websocket struct {
		Enabled bool `json:"enabled"`
		Port    int  `json:"port"`
	} `json:"websocket"`
	Merge accounts.File `json:"merge"` // into nats.conf, as it is
}

type natsTLS struct {
	Enabled    bool   `json:"enabled"`
	SecretName string `json:"secretName"`
}

type natsPatch struct {
	Merge struct {
		SecurityContext *corev1.SecurityContext `json:"securityContext"`
	} `json:"merge"`
}

type natsTemplate struct {
	// TopologySpreadConstraints by the key of a node's label.
	TopologySpreadConstraints map[string]natsSpread `json:"topologySpreadConstraints"`
	Merge                     struct {
		Spec struct {
			SecurityContext *corev1.PodSecurityContext `json:"securityContext"`
		} `json:"spec"`
	} `json:"merge"`
}

type natsService struct {
	Merge struct {
		Spec struct {
			Type corev1.ServiceType `json:"type"`
		} `json:"spec"`
	} `json:"merge"`
}

type natsSpread struct {
	MaxSkew           int                                  `json:"maxSkew"`
	WhenUnsatisfiable corev1.UnsatisfiableConstraintAction `json:"whenUnsatisfiable"`
}

// natsUser is the user id that NATS runs as where the cluster gives it none:
// its image has none of its own.
const natsUser = 1000

// natsValues are the values for these secrets' public keys.
func (o *Options) natsValues(c Cluster, secrets Secrets) (natsValues, error) {
	keys, callout, err := secrets.PublicKeys()
	if err != nil {
		return natsValues{}, err
	}
	v := natsValues{FullnameOverride: natsName, Budget: natsEnabled{true}}
	tls := natsTLS{true, natsTLSSecret}
	v.TLSCA = tls
	v.Config.Cluster.Enabled, v.Config.Cluster.Replicas, v.Config.Cluster.TLS = o.NATSReplicas > 1, o.NATSReplicas, tls
	v.Config.NATS.TLS = tls
	v.Config.JetStream.Enabled = true
	// Room for every device at its largest, and as much for what it should run.
	v.Config.JetStream.FileStore.PVC.Size = strconv.Itoa(max(10, o.Devices/500)) + "Gi"
	v.Config.JetStream.FileStore.PVC.StorageClass = o.StorageClass
	v.Config.Websocket.Enabled, v.Config.Websocket.Port = true, 8080
	v.Config.Merge = accounts.External(keys, callout)

	container := &corev1.SecurityContext{AllowPrivilegeEscalation: to(false), ReadOnlyRootFilesystem: to(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	v.Container.Merge.SecurityContext, v.Reloader.Merge.SecurityContext = container, container
	pod := &corev1.PodSecurityContext{RunAsNonRoot: to(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
	if !c.OpenShift {
		pod.RunAsUser, pod.RunAsGroup, pod.FSGroup = to(int64(natsUser)), to(int64(natsUser)), to(int64(natsUser))
	}
	v.PodTemplate.Merge.Spec.SecurityContext = pod
	if o.Expose == ExposeLoadBalancer {
		v.Service = &natsService{}
		v.Service.Merge.Spec.Type = corev1.ServiceTypeLoadBalancer
	}
	v.PodTemplate.TopologySpreadConstraints = map[string]natsSpread{corev1.LabelHostname: {1, corev1.DoNotSchedule}}
	return v, nil
}
