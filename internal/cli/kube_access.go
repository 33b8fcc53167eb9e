package cli

import (
	"net/http"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// RESTConfig is how the Kubernetes API is reached: --kubeconfig, then the
// control plane that the command is for, then what kubectl would use.
func (f *Factory) RESTConfig() (*rest.Config, error) {
	if f.global.kubeconfig == "" {
		t, err := f.target()
		switch {
		case err == nil && t.local == nil && t.context.KubernetesURL != "":
			return f.sessionConfig(t)
		case err != nil && f.chose():
			return nil, err
		}
	}
	config, err := f.clientConfig().ClientConfig()
	if err != nil {
		return nil, hint.Wrap(err, "start a control plane with: fleet-server all, sign in to one with: fleetctl login, or name one with --kubeconfig FILE")
	}
	return config, nil
}

// chose says whether the person named a control plane: then no other will do.
func (f *Factory) chose() bool {
	name, err := f.chosenContext()
	return err != nil || name != "" || f.chosenServerDir() != ""
}

// clientConfig finds the kubeconfig.
func (f *Factory) clientConfig() clientcmd.ClientConfig {
	rules, overrides := clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}
	t, err := f.target()
	switch {
	case f.global.kubeconfig != "":
		rules.ExplicitPath = f.global.kubeconfig
	case err == nil && t.local != nil:
		rules.ExplicitPath = t.local.Kubeconfig
	case err == nil && t.context.Kubeconfig != "":
		rules.ExplicitPath, overrides.CurrentContext = t.context.Kubeconfig, t.context.KubeContext
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// sessionConfig reaches a context's Kubernetes with the person's session. What
// `fleetctl token` does for kubectl is done here without a process in between.
func (f *Factory) sessionConfig(t target) (*rest.Config, error) {
	source, err := f.tokensOf(t)
	if err != nil {
		return nil, err
	}
	config := &rest.Config{Host: t.context.KubernetesURL, TLSClientConfig: rest.TLSClientConfig{CAData: []byte(t.context.CAPEM)}}
	config.Wrap(func(base http.RoundTripper) http.RoundTripper { return &bearer{base: base, source: source} })
	return config, nil
}

// bearer puts a session's token into requests, and renews it once when it is
// refused.
type bearer struct {
	base   http.RoundTripper
	source apiclient.Session
}

func (b *bearer) RoundTrip(req *http.Request) (*http.Response, error) {
	token, err := b.source.Token(req.Context())
	if err != nil {
		return nil, err
	}
	resp, err := b.base.RoundTrip(authorised(req, token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized || req.Body != nil && req.GetBody == nil {
		return resp, err
	}
	other, err := b.source.Renew(req.Context(), token)
	if err != nil || other == token {
		return resp, nil // the server's refusal says more than why there is no other token
	}
	again := authorised(req, other)
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return resp, nil
		}
	}
	_ = resp.Body.Close() // another answer takes its place
	return b.base.RoundTrip(again)
}

func authorised(req *http.Request, token string) *http.Request {
	out := req.Clone(req.Context())
	out.Header.Set("Authorization", "Bearer "+token)
	return out
}

// Namespace is the namespace of the kubeconfig's context, or "default".
func (f *Factory) Namespace() string {
	namespace, _, err := f.clientConfig().Namespace()
	if err != nil || namespace == "" {
		return "default"
	}
	return namespace
}
