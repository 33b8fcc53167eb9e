// Package machineid names a machine without giving away its machine id. The
// agent reports the name, onboarding registers it, and the control plane tells
// two machines apart by it, so all of them have to compute the same.
package machineid

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// application makes our name of a machine ours. It is random, made with
// systemd-id128 new, and must never change: it would make every device a
// stranger.
const application = "6f1d3c0b9a6e4c1f8a35c2e47b9d0e58"

// Name derives a machine's name from the content of /etc/machine-id as
// machine-id(5) asks for: it is what sd_id128_get_machine_app_specific(3)
// gives, 32 hex digits.
func Name(machineID string) (string, error) {
	key, err := hex.DecodeString(strings.TrimSpace(machineID))
	if err != nil || len(key) != 16 {
		return "", errors.New("machine id is not 32 hex digits, see machine-id(5)")
	}
	app, err := hex.DecodeString(application)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(app)
	id := mac.Sum(nil)[:16]
	id[6] = id[6]&0x0f | 0x40 // version 4 of RFC 9562, as systemd marks it
	id[8] = id[8]&0x3f | 0x80
	return hex.EncodeToString(id), nil
}

// Valid says whether s has the form of a name.
func Valid(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 16 && s == strings.ToLower(s)
}
