package credential

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// PSK is a pre-shared key in a file: for laboratories and the first minutes of
// a fleet. The file is read each time, so a replaced key needs no restart.
type PSK struct {
	User string // the device id
	File string // readable by its owner only
}

// Credential reads the key.
func (p PSK) Credential(context.Context) (Credential, error) {
	data, err := secretfile.Read(p.File)
	if err != nil {
		return Credential{}, fmt.Errorf("pre-shared key: %w", err)
	}
	key := strings.TrimSpace(string(data))
	if key == "" {
		return Credential{}, fmt.Errorf("pre-shared key %s: %w", p.File, errors.New("the file is empty"))
	}
	return Credential{User: p.User, Password: Secret(key)}, nil
}
