package provision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
)

// Devices manages the accounts of a fleet's devices.
type Devices struct {
	Client  *zitadel.Client
	Project string // id
}

// Account is what the issuer has of a device.
type Account struct {
	UserID  string // "" when there is none
	Active  bool
	Granted bool // the device's role, and no other
	Keys    []string
	grant   zitadel.Grant
}

// Good says whether the device can get tokens with that key.
func (a Account) Good(keyID string) bool {
	return a.UserID != "" && a.Active && a.Granted && slices.Contains(a.Keys, keyID)
}

// Check says whether devices can be managed at all, and why not: the wrong
// organisation, a missing role, or an issuer at which nothing was set up.
func (d Devices) Check(ctx context.Context) error {
	_, err := d.Client.Project(ctx, d.Project)
	if !zitadel.IsNotFound(err) {
		return err
	}
	where := "your organisation"
	if org, err := d.Client.Org(ctx); err == nil {
		where = fmt.Sprintf("organisation %s (id %s)", org.Name, org.ID)
	}
	if others, listed := d.Client.Projects(ctx, ProjectName); listed == nil && len(others) > 0 {
		return hint.WithCode(hint.Wrap(fmt.Errorf("%w: %s has a project %s, but it is %s and the server wants %s", err, where, ProjectName, others[0].ID, d.Project),
			"name the organisation of the server's project with --org-id, or start the server with project "+others[0].ID), hint.CodeFailed)
	}
	return hint.WithCode(hint.Wrap(fmt.Errorf("%w: it is not in %s", err, where),
		"name the organisation that has it with --org-id; if nothing was set up yet: fleetctl server setup-identity"), hint.CodeFailed)
}

// Look asks what there is of a device, and changes nothing.
func (d Devices) Look(ctx context.Context, device string) (Account, error) {
	user, found, err := d.Client.UserByName(ctx, DeviceUser(device))
	if err != nil || !found {
		return Account{}, err
	}
	if !user.IsMachine() {
		return Account{}, hint.New(fmt.Sprintf("user %s at the issuer is no machine's", user.Username), "choose another id with --device-id, or remove that user")
	}
	a := Account{UserID: user.ID, Active: user.Active()}
	if a.grant, found, err = d.Client.Grant(ctx, user.ID, d.Project); err != nil {
		return Account{}, err
	}
	a.Granted = found && slices.Equal(a.grant.Roles, []string{role.Device})
	keys, err := d.Client.Keys(ctx, user.ID)
	for _, k := range keys {
		a.Keys = append(a.Keys, k.ID)
	}
	return a, err
}

// Ensure gives a device its account: a machine user that has the device's role
// in the fleet's project and no other.
func (d Devices) Ensure(ctx context.Context, device string) (Account, error) {
	a, err := d.Look(ctx, device)
	if err != nil {
		return a, err
	}
	if a.UserID == "" {
		if a.UserID, err = d.Client.AddMachine(ctx, DeviceUser(device), device, "Device of the fleet, made by fleetctl"); err != nil {
			return a, err
		}
		a.Active = true
	}
	if !a.Active {
		if err := d.Client.Reactivate(ctx, a.UserID); err != nil {
			return a, err
		}
		a.Active = true
	}
	if a.Granted {
		return a, nil
	}
	if a.grant.ID == "" {
		err = d.Client.AddGrant(ctx, a.UserID, d.Project, []string{role.Device})
	} else {
		err = d.Client.SetGrant(ctx, a.UserID, a.grant.ID, []string{role.Device})
	}
	a.Granted = err == nil
	return a, err
}

// Register makes a device's public key (PEM) good for tokens of its account. It
// never expires: a device that nobody reaches must not fall out of its fleet.
// enroll --rotate replaces keys, and revoke ends them.
func (d Devices) Register(ctx context.Context, user, publicPEM string) (zitadel.NewKey, error) {
	return d.Client.AddKey(ctx, user, publicPEM, time.Time{})
}

// Prune ends all keys of an account but the one that the device has: those of
// before a rotation, and those of runs that were cut off.
func (d Devices) Prune(ctx context.Context, user, keep string) error {
	keys, err := d.Client.Keys(ctx, user)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.ID == keep {
			continue
		}
		if err := d.Client.DeleteKey(ctx, user, k.ID); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes a device's account with all of its keys. That there is none is
// no error; removed says whether there was.
func (d Devices) Remove(ctx context.Context, device string) (removed bool, err error) {
	user, found, err := d.Client.UserByName(ctx, DeviceUser(device))
	if err != nil || !found || !user.IsMachine() {
		return false, err
	}
	err = d.Client.DeleteUser(ctx, user.ID)
	if zitadel.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}
