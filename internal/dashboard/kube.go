package dashboard

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// kube makes clients of the Kubernetes API for people.
type kube struct {
	config *rest.Config
	scheme *runtime.Scheme
	mapper meta.RESTMapper
	shared bool
}

func newKube(config *rest.Config, shared bool) (*kube, error) {
	k := &kube{config: config, scheme: runtime.NewScheme(), shared: shared}
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(k.scheme); err != nil {
			return nil, err
		}
	}
	// Known beforehand, so that no client has to discover it.
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{v1alpha1.GroupVersion, corev1.SchemeGroupVersion})
	for _, kind := range []string{"Deployment", "DeploymentRevision"} {
		mapper.Add(v1alpha1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(v1alpha1.GroupVersion.WithKind("Device"), meta.RESTScopeRoot)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Event"), meta.RESTScopeNamespace)
	k.mapper = mapper
	return k, nil
}

// as is the Kubernetes API as the person sees it: what they may do there is for
// its own rules to say.
func (k *kube) as(who *session.Session) (client.Client, error) {
	config := k.config
	if !k.shared {
		config = rest.AnonymousClientConfig(k.config)
		config.BearerToken = string(who.Token)
	}
	c, err := client.New(config, client.Options{Scheme: k.scheme, Mapper: k.mapper})
	if err != nil {
		return nil, fmt.Errorf("reach the Kubernetes API: %w", err)
	}
	return c, nil
}
