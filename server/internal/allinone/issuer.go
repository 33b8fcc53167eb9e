package allinone

import (
	"context"

	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// startIssuer starts the OpenID Connect issuer. It has a port of its own,
// since a Zitadel's URLs have no path either.
func (s *server) startIssuer(ctx context.Context) (supervise.Part, error) {
	cert, err := s.serverCert("issuer")
	if err != nil {
		return nil, err
	}
	listener, err := s.ports.Listen(s.issuerRequest())
	if err != nil {
		return nil, err
	}
	s.issuer, err = issuer.Start(ctx, issuer.Config{
		Dir:      s.path("issuer"),
		URL:      endpointURL("https", s.public[0], portOf(listener)),
		Listener: listener,
		TLS:      cert.TLSConfig(),
		Log:      s.Log.With("component", "issuer"),
	})
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	s.endpoints.Issuer = s.issuer.URL
	s.endpoints.CLIClientID = s.issuer.CLIClientID
	s.endpoints.ProjectID = s.issuer.ProjectID
	s.endpoints.AdminPasswordFile = s.issuer.AdminPasswordFile
	s.endpoints.FirstPassword = s.issuer.AdminPassword
	return supervise.Held(s.issuer.Shutdown), nil
}
