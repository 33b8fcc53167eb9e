package allinone

import (
	"context"
	"crypto/tls"
	"net/http"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/serverapi"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/server/internal/supervise"
	"github.com/nationtech/fleetctl/server/kubeapi"
)

// kubeRoles is what each role may do in Kubernetes. Devices are made and
// labelled by enrolment; who operates a fleet changes them, and what runs there.
func kubeRoles() []kubeapi.Role {
	read := []string{"get", "list", "watch"}
	look := []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{rbacv1.ResourceAll}, Verbs: read},
		{APIGroups: []string{"", "events.k8s.io"}, Resources: []string{"namespaces", "events"}, Verbs: read},
	}
	change := []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"deployments"},
			Verbs: []string{"create", "update", "patch", "delete", "deletecollection"}},
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"devices"}, Verbs: []string{"update", "patch", "delete"}},
	}
	return []kubeapi.Role{
		{Name: role.Viewer, Rules: look},
		{Name: role.Operator, Rules: append(look, change...)},
		{Name: role.Admin, Everything: true},
	}
}

func (s *server) bindRoles(ctx context.Context) (supervise.Part, error) {
	return nil, kubeapi.BindRoles(ctx, s.kube.RESTConfig(), kubeRoles())
}

// startAudit opens the audit log and the verifier of people's tokens, which
// the API needs.
func (s *server) startAudit(context.Context) (supervise.Part, error) {
	var err error
	if s.audit, err = audit.Open(s.path("audit")); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.issuerHTTP = s.issuerClient()
	s.tokens = verify.New(ctx, verify.Config{Issuer: s.issuer.URL, Audiences: []string{s.issuer.ProjectID}, HTTPClient: s.issuerHTTP})
	return supervise.Held(func(context.Context) error {
		cancel()
		s.issuerHTTP.CloseIdleConnections()
		return s.audit.Close()
	}), nil
}

// issuerClient reaches the issuer of this process, hence without a proxy.
func (s *server) issuerClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: s.ca.Pool(), MinVersion: tls.VersionTLS12}
	transport.Proxy = nil
	return &http.Client{Transport: transport}
}

func (s *server) apiAuth(admin serverapi.AdminToken) serverapi.Authenticator {
	return serverapi.Either{admin, serverapi.IssuedTokens{Verifier: s.tokens}}
}

func (s *server) signIn() api.SignIn {
	return api.SignIn{SchemaVersion: api.SchemaVersion, Issuer: s.issuer.URL, ClientID: s.issuer.CLIClientID,
		ProjectID: s.issuer.ProjectID, KubernetesURL: s.endpoints.KubernetesURL, CAPEM: string(s.ca.PEM()), PSK: s.AllowPSK}
}

// deviceAccounts calls the issuer as the person who approves a device.
func (s *server) deviceAccounts(token, org string) (serverapi.DeviceAccounts, error) {
	client, err := zitadel.New(zitadel.Config{Issuer: s.issuer.URL, OrgID: org, HTTPClient: s.issuerHTTP,
		Token: func(context.Context) (zitadel.Token, error) { return zitadel.Token(token), nil }})
	return provision.Devices{Client: client, Project: s.issuer.ProjectID}, err
}
