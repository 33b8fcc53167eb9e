package onboard

import (
	"context"
	"fmt"

	"github.com/pelletier/go-toml/v2"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/wire"
)

const maxConfig = 1 << 20

// DeviceOf reads which device a host is. A host that is none gives an error
// that wraps fs.ErrNotExist.
func DeviceOf(ctx context.Context, h hostcfg.Host) (string, error) {
	data, err := h.Get(ctx, ConfigFile, maxConfig)
	if err != nil {
		return "", fmt.Errorf("read which device the host is: %w", err)
	}
	var c struct {
		DeviceID string `toml:"device_id"`
	}
	if err := toml.Unmarshal(data, &c); err != nil {
		return "", fmt.Errorf("read which device the host is from %s: %w", ConfigFile, err)
	}
	if err := wire.ValidateDeviceID(c.DeviceID); err != nil {
		return "", fmt.Errorf("read which device the host is from %s: %w", ConfigFile, err)
	}
	return c.DeviceID, nil
}
