// Package parts runs the parts of the control plane as processes of their own:
// operator, callout, and the HTTPS API with its dashboard. The Kubernetes API
// and the NATS servers are somebody else's here; only addresses and keys differ
// from fleet-server all. It owns what a part needs to start, how it is watched,
// and in which order it stops; what the parts do is in their packages.
package parts

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Access is how a part reaches what it works with, and how it is watched.
type Access struct {
	// Kubeconfig is a file; without one the pod's service account is used.
	Kubeconfig string
	NATSURLs   []string
	NATSCAFile string // PEM; without it the system's authorities count
	// KeysDir holds the part's NATS keys, each in <name>.nk as nkeys writes them.
	KeysDir       string
	StatusAddress string // of health checks and metrics, such as ":8081"; empty: nowhere
	StartTimeout  time.Duration
	Version       string // of this program
	Log           *slog.Logger
}

func (a *Access) faults() []error {
	var errs []error
	if len(a.NATSURLs) == 0 {
		errs = append(errs, errors.New("--nats-url is needed"))
	}
	for _, u := range a.NATSURLs {
		if scheme, _, ok := strings.Cut(u, "://"); !ok || scheme != "tls" && scheme != "nats" && scheme != "wss" {
			errs = append(errs, fmt.Errorf("--nats-url %q does not begin with tls://, nats:// or wss://", u))
		}
	}
	if a.KeysDir == "" {
		errs = append(errs, errors.New("--keys-dir is needed"))
	}
	if a.StatusAddress != "" {
		if _, _, err := net.SplitHostPort(a.StatusAddress); err != nil {
			errs = append(errs, fmt.Errorf("--status-address %q is no address with a port, such as :8081", a.StatusAddress))
		}
	}
	if a.StartTimeout <= 0 {
		errs = append(errs, fmt.Errorf("--start-timeout %s is not positive", a.StartTimeout))
	}
	return errs
}

// wrong makes one error of all faults of a part's flags.
func wrong(part string, faults []error) error {
	if len(faults) == 0 {
		return nil
	}
	return hint.WithCode(hint.Wrap(errors.Join(faults...), "see: fleet-server "+part+" --help"), hint.CodeUsage)
}

func (a *Access) restConfig() (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", a.Kubeconfig)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("find the Kubernetes API: %w", err), "name a file with --kubeconfig, or run in a pod with a service account")
	}
	cfg.UserAgent = "fleet-server/" + a.Version
	cfg.QPS = -1 // the server's own fairness queues do it better
	return cfg, nil
}

// key reads a seed. Secrets mounted into a pod are readable by all of the pod,
// whose user id nobody knows before, so file modes say nothing here.
func (a *Access) key(name string) (nkeys.KeyPair, error) {
	path := filepath.Join(a.KeysDir, name+".nk")
	seed, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read NATS key: %w", err)
	}
	defer clear(seed)
	pair, err := nkeys.ParseDecoratedNKey(seed)
	if err != nil && strings.HasPrefix(string(seed), "SX") { // curve keys are for encryption, not for signing
		pair, err = nkeys.FromCurveSeed([]byte(strings.TrimSpace(string(seed))))
	}
	if err != nil {
		return nil, fmt.Errorf("read NATS key %s: %w", path, err)
	}
	return pair, nil
}
