package issuer

import (
	"context"
	"errors"
	"fmt"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

// RemoveDevice removes the machine user of a device, with its keys and grants.
// That there is none is no error.
func (i *Issuer) RemoveDevice(ctx context.Context, device string) error {
	user, err := i.store.UserByName(ctx, DevicePrefix+device)
	if err == nil && user.Kind == store.Machine {
		err = i.store.DeleteUser(ctx, user.ID)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("remove the issuer's user of device %s: %w", device, err)
	}
	return nil
}
