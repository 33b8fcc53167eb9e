package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// API is fleet-server's HTTPS API: of a context with the person's session, of a
// server on this machine with the token that its first start wrote for the
// administrator.
func (f *Factory) API() (*apiclient.Client, error) {
	t, err := f.target()
	if err != nil {
		return nil, err
	}
	if t.local != nil {
		return localAPI(t.local)
	}
	if t.context.Server == "" {
		return nil, hint.New("context "+t.name+" names no fleet-server", "add it with: fleetctl login --context "+t.name+" --server URL")
	}
	source, err := f.tokensOf(t)
	if err != nil {
		return nil, err
	}
	return apiclient.NewWithSession(t.context.Server, []byte(t.context.CAPEM), source)
}

func localAPI(e *Endpoints) (*apiclient.Client, error) {
	ca, err := os.ReadFile(e.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the server's CA: %w", err)
	}
	token, err := os.ReadFile(e.AdminTokenFile)
	if err != nil {
		return nil, hint.WithCode(hint.Wrap(fmt.Errorf("read the administrator's token: %w", err),
			"run as the user that runs fleet-server, or sign in with: fleetctl login"), hint.CodeAuth)
	}
	return apiclient.New(e.APIURL, ca, strings.TrimSpace(string(token)))
}
