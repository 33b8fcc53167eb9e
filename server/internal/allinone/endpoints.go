package allinone

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// endpointsSchema is raised when a field of Endpoints changes its meaning;
// adding one does not.
const endpointsSchema = 1

// Endpoints is where a running server is found and what is needed to use it:
// endpoints.json in its data directory, there from readiness to a clean stop.
// Paths are absolute.
type Endpoints struct {
	SchemaVersion  int    `json:"schemaVersion"`
	Kubeconfig     string `json:"kubeconfig"`
	KubernetesURL  string `json:"kubernetesURL"`
	NATSURL        string `json:"natsURL"`
	APIURL         string `json:"apiURL"`
	CAFile         string `json:"caFile"`
	CAFingerprint  string `json:"caFingerprint"` // SHA-256, as openssl prints it
	AdminTokenFile string `json:"adminTokenFile"`
	// MetricsTokenFile holds the token that lets a monitoring system read
	// APIURL/metrics, and nothing else.
	MetricsTokenFile string `json:"metricsTokenFile"`
	LogFile          string `json:"logFile"`
	PID              int    `json:"pid"`

	Issuer            string `json:"issuer"`
	CLIClientID       string `json:"cliClientID"`
	ProjectID         string `json:"projectID"`
	AdminPasswordFile string `json:"adminPasswordFile,omitempty"` // the first administrator's, until it is changed

	// FirstPassword is for the person who watches the first start; it is in no file but the one above.
	FirstPassword string `json:"-"`
}

// endpointURL puts a URL together; IPv6 addresses get their brackets.
func endpointURL(scheme, host string, port int) string {
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port))
}

func endpointsPath(dir string) string { return filepath.Join(dir, "endpoints.json") }

func writeEndpoints(dir string, e Endpoints) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encode endpoints: %w", err)
	}
	return secretfile.Write(endpointsPath(dir), append(data, '\n'))
}

func removeEndpoints(dir string) error {
	if err := os.Remove(endpointsPath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove endpoints: %w", err)
	}
	return nil
}
