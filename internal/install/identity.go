package install

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
)

// SetUpIdentity makes at the issuer what the fleet needs there, makes its first
// administrator one of the fleet, and completes o with the ids. It gives a line
// for each change.
func (o *Options) SetUpIdentity(ctx context.Context, client *zitadel.Client) ([]string, error) {
	made, err := provision.Make(ctx, client, provision.Wish{
		RedirectURIs: []string{o.APIURL() + "/auth/callback"}, LogoutURIs: []string{o.APIURL() + "/"},
		// In a cluster the parts have NATS keys of their own, and no key here.
		Service: func(context.Context, provision.Service, string, []zitadel.Key) (bool, error) { return false, nil },
	})
	if err != nil {
		return made.Changes, fmt.Errorf("set up the issuer: %w", err)
	}
	o.ProjectID, o.ClientID, o.DashboardID = made.Project.ID, made.CLIClientID, made.DashboardClientID
	admin, found, err := client.UserByName(ctx, o.AdminLogin())
	if err != nil || !found {
		return made.Changes, err
	}
	grant, granted, err := client.Grant(ctx, admin.ID, o.ProjectID)
	if err != nil || granted && slices.Contains(grant.Roles, role.Admin) {
		return made.Changes, err
	}
	if granted {
		err = client.SetGrant(ctx, admin.ID, grant.ID, append(grant.Roles, role.Admin))
	} else {
		err = client.AddGrant(ctx, admin.ID, o.ProjectID, []string{role.Admin})
	}
	return append(made.Changes, "made "+o.AdminLogin()+" an administrator of the fleet"), err
}

// AwaitIssuer waits until the issuer answers at its public URL: its name, the
// certificate and what is before it take their time when they are new.
func (s *Smoke) AwaitIssuer(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		err := s.discovery(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return hint.Wrap(fmt.Errorf("the issuer does not answer at its public URL %s within %s: %w", s.Issuer, timeout, err),
				"does that name resolve to the ingress, and is its certificate there? Then run the same command again")
		case <-time.After(connectEvery):
		}
	}
}
