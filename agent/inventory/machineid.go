package inventory

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// applicationID makes our hash of a machine id ours. It is random, made with
// systemd-id128 new, and must never change: it would make every device a
// stranger.
const applicationID = "6f1d3c0b9a6e4c1f8a35c2e47b9d0e58"

// MachineID hashes /etc/machine-id below root as machine-id(5) asks for: the
// id itself stays on the machine. It is what sd_id128_get_machine_app_specific
// gives, 32 hex digits.
func MachineID(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "etc/machine-id"))
	if err != nil {
		return "", fmt.Errorf("read machine id: %w", err)
	}
	return appSpecific(strings.TrimSpace(string(data)), applicationID)
}

func appSpecific(machine, application string) (string, error) {
	key, err := hex.DecodeString(machine)
	if err != nil || len(key) != 16 {
		return "", errors.New("machine id is not 32 hex digits, see machine-id(5)")
	}
	app, err := hex.DecodeString(application)
	if err != nil {
		return "", fmt.Errorf("application id: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(app)
	id := mac.Sum(nil)[:16]
	id[6] = id[6]&0x0f | 0x40 // version 4 of RFC 9562, as systemd marks it
	id[8] = id[8]&0x3f | 0x80
	return hex.EncodeToString(id), nil
}
