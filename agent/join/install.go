package join

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/deviceconfig"
	protocol "github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

// Modes of the files, as onboarding has them.
const (
	configMode fs.FileMode = 0o640
	publicMode fs.FileMode = 0o644
)

// install writes what makes this machine a device. The configuration is last:
// where it is, all the rest is.
func (cfg Config) install(g *protocol.Grant) error {
	wish := deviceconfig.Wish{
		DeviceID: cfg.DeviceID, Labels: cfg.Labels, NATSURLs: g.NATSURLs, CAPEM: g.CAPEM,
		Issuer: deviceconfig.Issuer{URL: g.Issuer, Project: g.ProjectID, CAPEM: g.IssuerCAPEM},
	}
	text, err := wish.Text()
	if err != nil {
		return err
	}
	keys, err := json.Marshal(g.SigningKeys)
	if err != nil {
		return fmt.Errorf("encode the signing keys: %w", err)
	}
	at := func(path string) string { return filepath.Join(cfg.Keys.Dir, filepath.Base(path)) }
	if err := secretfile.WriteFor(cfg.Keys.Owner, at(deviceconfig.KeysFile), append(keys, '\n')); err != nil {
		return err
	}
	if g.CAPEM != "" {
		if err := put(at(deviceconfig.CAFile), []byte(g.CAPEM), publicMode, -1); err != nil {
			return err
		}
	}
	if wish.IssuerCA() == deviceconfig.IssuerCAFile {
		if err := put(at(deviceconfig.IssuerCAFile), []byte(g.IssuerCAPEM), publicMode, -1); err != nil {
			return err
		}
	}
	if _, err := cfg.Keys.Bind(g.UserID, g.KeyID); err != nil {
		return err
	}
	return put(at(deviceconfig.File), []byte(text), configMode, cfg.Keys.Owner.GID)
}

// put replaces a file of ours that a group may read.
func put(path string, data []byte, mode fs.FileMode, gid int) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when it was renamed
	_, err = tmp.Write(data)
	if err == nil && gid >= 0 {
		err = tmp.Chown(-1, gid)
	}
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
