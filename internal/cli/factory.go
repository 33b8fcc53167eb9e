package cli

import (
	"log/slog"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Factory gives commands what they need of the world outside. Its methods do
// their work when called, so that --help and completion touch nothing. It is
// the only place that reads our environment variables.
type Factory struct {
	Streams
	Version string

	global globalOptions
}

// globalOptions are the flags that every command has.
type globalOptions struct {
	output     string
	verbose    bool
	kubeconfig string
	serverDir  string
}

// Log is the logger of a command: human-readable, on stderr, warnings only
// unless --verbose.
func (f *Factory) Log() *slog.Logger {
	level := slog.LevelWarn
	if f.global.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(f.Err, &slog.HandlerOptions{Level: level}))
}

// RESTConfig is how the Kubernetes API is reached: --kubeconfig, then the
// local fleet-server's, then what kubectl would use.
func (f *Factory) RESTConfig() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	switch endpoints, err := f.Endpoints(); {
	case f.global.kubeconfig != "":
		rules.ExplicitPath = f.global.kubeconfig
	case err == nil:
		rules.ExplicitPath = endpoints.Kubeconfig
	case f.global.serverDir != "":
		return nil, err
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, hint.Wrap(err, "start a control plane with: fleet-server all, or name one with --kubeconfig FILE")
	}
	return config, nil
}

// Namespace is the namespace of the kubeconfig's context, or "default".
func (f *Factory) Namespace() string {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.global.kubeconfig
	namespace, _, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).Namespace()
	if err != nil || namespace == "" {
		return "default"
	}
	return namespace
}

// CacheDir is where downloads are kept: $XDG_CACHE_HOME/fleetctl.
func (f *Factory) CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", hint.Wrap(err, "set HOME or XDG_CACHE_HOME")
	}
	return filepath.Join(dir, "fleetctl"), nil
}

// ConfigDir is where settings and keys are kept: $XDG_CONFIG_HOME/fleetctl.
func (f *Factory) ConfigDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", hint.Wrap(err, "set HOME or XDG_CONFIG_HOME")
	}
	return filepath.Join(dir, "fleetctl"), nil
}

// SSHAgentSocket is the ssh-agent's socket (SSH_AUTH_SOCK), or "".
func (f *Factory) SSHAgentSocket() string { return os.Getenv("SSH_AUTH_SOCK") }
