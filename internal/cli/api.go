package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// API is fleet-server's HTTPS API, reached with the token that its first start
// wrote for the administrator.
func (f *Factory) API() (*apiclient.Client, error) {
	endpoints, err := f.Endpoints()
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(endpoints.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the server's CA: %w", err)
	}
	token, err := os.ReadFile(endpoints.AdminTokenFile)
	if err != nil {
		return nil, hint.WithCode(hint.Wrap(fmt.Errorf("read the administrator's token: %w", err),
			"run as the user that runs fleet-server"), hint.CodeAuth)
	}
	return apiclient.New(endpoints.APIURL, ca, strings.TrimSpace(string(token)))
}
