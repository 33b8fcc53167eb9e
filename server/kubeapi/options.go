package kubeapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/features"
	genericapiserver "k8s.io/apiserver/pkg/server"
	apioptions "k8s.io/apiserver/pkg/server/options"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/pkg/controlplane/apiserver/options"
	genericserver "k8s.io/kubernetes/pkg/controlplane/apiserver/samples/generic/server"
	"k8s.io/kubernetes/pkg/kubeapiserver"
	"k8s.io/kubernetes/pkg/kubeapiserver/authorizer/modes"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

type genericConfig = genericapiserver.Config

// serverOptions says in upstream's terms what Config means: RBAC, nobody
// anonymous except on health checks, our certificates, our etcd.
func serverOptions(ctx context.Context, cfg Config, creds *credentials, endpoint string) (options.CompletedOptions, error) {
	authn := filepath.Join(cfg.DataDir, "authentication.yaml")
	if err := writeAuthentication(authn, cfg.Authenticators); err != nil {
		return options.CompletedOptions{}, err
	}
	addr, ok := cfg.Listener.Addr().(*net.TCPAddr)
	if !ok {
		return options.CompletedOptions{}, fmt.Errorf("listener %s is not TCP", cfg.Listener.Addr())
	}
	external, err := url.Parse(cfg.URL)
	if err != nil {
		return options.CompletedOptions{}, fmt.Errorf("URL of the Kubernetes API: %w", err)
	}

	// Every five minutes the cache of each resource is compared with etcd, for which
	// all of it is read and decoded anew: seconds of a processor for a large fleet.
	if err := utilfeature.DefaultMutableFeatureGate.SetFromMap(map[string]bool{string(features.DetectCacheInconsistency): false}); err != nil {
		return options.CompletedOptions{}, fmt.Errorf("turn off the comparison of caches: %w", err)
	}
	o := genericserver.NewOptions()
	o.GenericServerRunOptions.ExternalHost = external.Host
	// Only named in the "kubernetes" endpoints, which nothing reads here; left to
	// itself upstream looks for a default route and fails on hosts without one.
	o.GenericServerRunOptions.AdvertiseAddress = net.IPv4(127, 0, 0, 1)
	// Without it open watches are not told, and hold up every stop until the
	// drain timeout.
	o.GenericServerRunOptions.ShutdownWatchTerminationGracePeriod = time.Second
	o.SecureServing.Listener = cfg.Listener
	o.SecureServing.BindAddress = addr.IP
	o.SecureServing.BindPort = addr.Port
	o.SecureServing.ServerCert.CertKey.CertFile = cfg.CertFile
	o.SecureServing.ServerCert.CertKey.KeyFile = cfg.KeyFile
	o.SecureServing.ServerCert.CertDirectory = ""

	o.Etcd.StorageConfig.Transport.ServerList = []string{endpoint}
	// As in upstream's own server: nobody here watches events, and a cache holds
	// each of them decoded, once for either API group, with its history.
	sizes, err := apioptions.WriteWatchCacheSizes(kubeapiserver.DefaultWatchCacheSizes())
	if err != nil {
		return options.CompletedOptions{}, err
	}
	o.Etcd.WatchCacheSizes = sizes

	o.Authentication.AuthenticationConfigFile = authn
	o.Authentication.ClientCert.ClientCA = creds.adminFile
	o.Authentication.ServiceAccounts.Issuers = []string{"https://kubernetes.default.svc"}
	o.Authentication.ServiceAccounts.KeyFiles = []string{creds.signerKey}
	o.ServiceAccountSigningKeyFile = creds.signerKey
	o.Authorization.Modes = []string{modes.ModeRBAC}
	if cfg.AuditLog != "" {
		policy := filepath.Join(cfg.DataDir, "audit-policy.yaml")
		if err := writeAuditPolicy(policy); err != nil {
			return options.CompletedOptions{}, err
		}
		o.Audit.PolicyFile, o.Audit.LogOptions.Path = policy, cfg.AuditLog
	}

	completed, err := o.Complete(ctx, nil, nil)
	if err != nil {
		return options.CompletedOptions{}, err
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return options.CompletedOptions{}, errors.Join(errs...)
	}
	return completed, nil
}

// writeAuthentication writes upstream's structured authentication configuration.
// It is also what closes the API to the anonymous: the default lets them ask for
// everything, and leaves the refusal to RBAC alone.
func writeAuthentication(path string, issuers []apiserverv1.JWTAuthenticator) error {
	cfg := apiserverv1.AuthenticationConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: apiserverv1.SchemeGroupVersion.String(), Kind: "AuthenticationConfiguration"},
		JWT:      issuers,
		Anonymous: &apiserverv1.AnonymousAuthConfig{
			Enabled:    true,
			Conditions: []apiserverv1.AnonymousAuthCondition{{Path: "/livez"}, {Path: "/readyz"}, {Path: "/healthz"}},
		},
	}
	data, err := yaml.Marshal(cfg)
	if err != nil {
		return fmt.Errorf("encode authentication configuration: %w", err)
	}
	if err := secretfile.Write(path, data); err != nil {
		return fmt.Errorf("write authentication configuration: %w", err)
	}
	return nil
}

// writeAuditPolicy asks for who asked for what, once a request, without bodies.
func writeAuditPolicy(path string) error {
	policy := auditv1.Policy{
		TypeMeta:   metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "Policy"},
		Rules:      []auditv1.PolicyRule{{Level: auditv1.LevelMetadata}},
		OmitStages: []auditv1.Stage{auditv1.StageRequestReceived},
	}
	data, err := yaml.Marshal(policy)
	if err != nil {
		return fmt.Errorf("encode audit policy: %w", err)
	}
	if err := secretfile.Write(path, data); err != nil {
		return fmt.Errorf("write audit policy: %w", err)
	}
	return nil
}

// readiness reduces a verbose answer of /readyz to the checks that fail.
func readiness(body []byte, err error) error {
	var failing []string
	for line := range bytes.Lines(body) {
		if name, ok := strings.CutPrefix(string(line), "[-]"); ok {
			name, _, _ = strings.Cut(name, " ")
			failing = append(failing, name)
		}
	}
	if len(failing) == 0 {
		return err
	}
	return fmt.Errorf("waiting for %s", strings.Join(failing, ", "))
}
