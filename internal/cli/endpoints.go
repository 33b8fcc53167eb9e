package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Endpoints is the endpoints.json that `fleet-server all` writes into its data
// directory once it is ready.
type Endpoints struct {
	SchemaVersion  int    `json:"schemaVersion"`
	Kubeconfig     string `json:"kubeconfig"`
	NATSURL        string `json:"natsURL"`
	APIURL         string `json:"apiURL"`
	CAFile         string `json:"caFile"`
	AdminTokenFile string `json:"adminTokenFile"`
	PID            int    `json:"pid"`
	Issuer         string `json:"issuer"`
	CLIClientID    string `json:"cliClientID"`
	ProjectID      string `json:"projectID"`
}

// Endpoints finds the fleet-server on this machine: --server-dir,
// $FLEETCTL_SERVER_DIR, or the server's default data directory.
func (f *Factory) Endpoints() (*Endpoints, error) {
	dir, err := f.serverDir()
	if err != nil {
		return nil, err
	}
	return readEndpoints(dir)
}

var errNoServer = errors.New("no fleet-server has been started")

func readEndpoints(dir string) (*Endpoints, error) {
	path := filepath.Join(dir, "endpoints.json")
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.Wrap(fmt.Errorf("%w in %s", errNoServer, dir),
			"start one with: fleet-server all, name its data directory with --server-dir DIR, or sign in to another with: fleetctl login --server URL")
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.WithCode(hint.Wrap(fmt.Errorf("read the server's endpoints: %w", err),
			"run as the user that runs fleet-server, or sign in with: fleetctl login --server URL"), hint.CodeAuth)
	case err != nil:
		return nil, fmt.Errorf("read the server's endpoints: %w", err)
	}
	var e Endpoints
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	return &e, nil
}

func (f *Factory) serverDir() (string, error) {
	if dir := f.chosenServerDir(); dir != "" {
		return dir, nil
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "fleet-server"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", hint.Wrap(err, "set HOME, or name the directory with --server-dir DIR")
	}
	return filepath.Join(home, ".local", "share", "fleet-server"), nil
}

// chosenServerDir is the directory that the person named, or "".
func (f *Factory) chosenServerDir() string {
	return cmp.Or(f.global.serverDir, os.Getenv("FLEETCTL_SERVER_DIR"))
}
