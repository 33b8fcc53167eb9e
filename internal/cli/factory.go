package cli

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/session"
)

// Factory gives commands what they need of the world outside. Its methods do
// their work when called, so that --help and completion touch nothing. It is
// the only place that reads our environment variables.
type Factory struct {
	Streams
	Version string

	global globalOptions
	once   *target // signed in to for this run alone; see login_once.go
}

// globalOptions are the flags that every command has.
type globalOptions struct {
	output     string
	verbose    bool
	kubeconfig string
	serverDir  string
	context    string
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

// Sessions is where contexts and sign-ins are kept.
func (f *Factory) Sessions() (session.Store, error) {
	dir, err := f.ConfigDir()
	return session.Store{Dir: dir}, err
}

// graphical says whether a browser could be opened where the person sees it.
func (f *Factory) graphical() bool {
	return runtime.GOOS != "linux" || os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
}

// kubeconfigEnv is what `fleetctl token` has to find in its environment when
// kubectl starts it, so that it finds the same configuration directory.
func (f *Factory) kubeconfigEnv() map[string]string {
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return map[string]string{"XDG_CONFIG_HOME": dir}
	}
	return nil
}
