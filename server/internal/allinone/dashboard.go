package allinone

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"net/http"
	"slices"

	"github.com/nationtech/fleetctl/internal/dashboard"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// dashboardScopes: roles are in a token when they were asked for.
func (s *server) dashboardScopes() []string {
	return []string{"openid", "profile", "offline_access", "urn:zitadel:iam:org:projects:roles", "urn:zitadel:iam:org:project:id:" + s.issuer.ProjectID + ":aud",
		zitadel.ScopeAPI} // approving a device is done at the issuer, as the person
}

// startDashboard prepares the pages that the HTTPS API's listener serves, and
// tells the issuer where they are.
func (s *server) startDashboard(ctx context.Context) (supervise.Part, error) {
	listener, err := s.ports.Listen(s.apiRequest())
	if err != nil {
		return nil, err
	}
	s.apiListener = listener
	port := portOf(listener)
	s.endpoints.APIURL = endpointURL("https", s.public[0], port)
	var origins, redirect, signedOut []string
	for _, host := range slices.Concat(s.public, s.hosts) {
		origin := endpointURL("https", host, port)
		if slices.Contains(origins, origin) {
			continue
		}
		origins = append(origins, origin)
		redirect = append(redirect, origin+session.CallbackPath)
		signedOut = append(signedOut, origin+dashboard.SignedOutPath)
	}
	if err := s.issuer.SetDashboard(ctx, redirect, signedOut); err != nil {
		return nil, err
	}
	key, err := secretfile.LoadOrCreate(s.path("dashboard.key"), func() ([]byte, error) {
		key := make([]byte, session.KeyBytes)
		_, err := rand.Read(key)
		return key, err
	})
	if err != nil {
		return nil, err
	}
	log := s.Log.With("component", "dashboard")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: s.ca.Pool(), MinVersion: tls.VersionTLS12}
	transport.Proxy = nil // the issuer is this process
	client := &http.Client{Transport: transport}
	lifetime, cancel := context.WithCancel(context.Background())
	sessions, err := session.NewManager(session.Config{
		Keys: [][]byte{key}, Origins: origins, Issuer: s.issuer.URL, ClientID: s.issuer.DashboardClientID,
		Scopes: s.dashboardScopes(), HTTPClient: client, Log: log, Access: s.tokens,
		ID: verify.New(lifetime, verify.Config{Issuer: s.issuer.URL, Audiences: []string{s.issuer.DashboardClientID}, HTTPClient: client}),
	})
	if err == nil {
		s.dashboard, err = dashboard.New(dashboard.Config{
			Kube: s.kube.RESTConfig(), Audit: s.audit, Sessions: sessions, ServerURL: s.endpoints.APIURL, Version: s.Version, Log: log,
		})
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return supervise.Loop(func(ctx context.Context) error {
		defer transport.CloseIdleConnections()
		defer cancel()
		return s.dashboard.Run(ctx)
	}), nil
}
