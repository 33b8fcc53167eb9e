package charts

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// access gives the SDK the cluster that fleetctl speaks to, however that was
// found, in place of a kubeconfig of its own choosing.
type access struct {
	config    *rest.Config
	namespace string
	discovery discovery.CachedDiscoveryInterface
}

func newAccess(config *rest.Config, namespace string) *access {
	return &access{config: config, namespace: namespace}
}

// ToRESTConfig gives a copy: the SDK changes what it gets.
func (a *access) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(a.config), nil }

func (a *access) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	if a.discovery == nil {
		client, err := discovery.NewDiscoveryClientForConfig(a.config)
		if err != nil {
			return nil, err
		}
		a.discovery = memory.NewMemCacheClient(client)
	}
	return a.discovery, nil
}

func (a *access) ToRESTMapper() (meta.RESTMapper, error) {
	client, err := a.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	return restmapper.NewDeferredDiscoveryRESTMapper(client), nil
}

func (a *access) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	return clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(),
		&clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: a.namespace}})
}
