package callout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/nationtech/fleetctl/internal/wire"
)

// PSK is a device's password: hex HMAC-SHA256 (RFC 2104) of its id under the
// fleet key. Each device has its own, and none gives away another's.
func PSK(fleetKey []byte, device string) string {
	mac := hmac.New(sha256.New, fleetKey)
	mac.Write([]byte(device))
	return hex.EncodeToString(mac.Sum(nil))
}

// request is what a client presented, as the NATS server passes it on.
type request struct {
	User     string
	Password string
}

// decision is the answer: a device's id and what it may do, or a refusal.
type decision struct {
	Device      string
	Account     string
	Permissions wire.Permissions
}

// Why a client is refused. The client itself only hears "authorization
// violation"; these are for the audit line.
var (
	errNoCredentials = errors.New("no credentials")
	errBadID         = errors.New("unusable device id")
	errWrongPassword = errors.New("wrong password")
	errDenied        = errors.New("device is revoked")
	errTooOften      = errors.New("connects too often")
)

// policy is what decisions depend on. Both functions are asked only about
// clients that proved who they are, so that nobody locks out another by
// guessing.
type policy struct {
	fleetKey []byte
	denied   func(device string) bool
	allow    func(device string) bool // spends one of the device's connects
}

// decide is the whole decision, without I/O. Each kind of credential is one
// branch that ends in an id; what an id may do does not depend on how it was
// proved.
func (p policy) decide(r request) (decision, error) {
	if r.User == "" && r.Password == "" {
		return decision{}, errNoCredentials
	}
	device, err := p.byPassword(r)
	if err != nil {
		return decision{}, err
	}
	switch {
	case p.denied != nil && p.denied(device):
		return decision{}, errDenied
	case p.allow != nil && !p.allow(device):
		return decision{}, errTooOften
	}
	return decision{
		Device:      device,
		Account:     wire.AccountDevices,
		Permissions: wire.DevicePermissions(device),
	}, nil
}

func (p policy) byPassword(r request) (device string, err error) {
	if err := wire.ValidateDeviceID(r.User); err != nil {
		return "", fmt.Errorf("%w: %w", errBadID, err)
	}
	if !hmac.Equal([]byte(PSK(p.fleetKey, r.User)), []byte(r.Password)) { // in constant time
		return "", errWrongPassword
	}
	return r.User, nil
}
