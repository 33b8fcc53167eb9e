package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/kubeconfig"
)

// writeKubeconfig lets kubectl in with the same session. It gives the file and
// the context in it, and whether that is kubectl's current one.
func (f *Factory) writeKubeconfig(ctx context.Context, t target) (path, name string, current bool, err error) {
	name = "fleet-" + t.name
	if path = f.global.kubeconfig; path == "" {
		path = kubeconfig.File(name)
	}
	if path, err = filepath.Abs(path); err != nil {
		return path, name, false, err
	}
	command, err := ownCommand()
	if err != nil {
		return path, name, false, err
	}
	current, err = kubeconfig.Put(ctx, path, kubeconfig.Entry{
		Name: name, Server: t.context.KubernetesURL, CAPEM: []byte(t.context.CAPEM),
		Command: command, Args: []string{"token", "--context", t.name}, Env: f.kubeconfigEnv(),
	})
	if err != nil {
		return path, name, false, err
	}
	store, err := f.Sessions()
	if err != nil {
		return path, name, current, err
	}
	// So that `context delete` knows what to remove.
	return path, name, current, store.Change(ctx, func(all *session.Contexts) error {
		c := all.Contexts[t.name]
		c.Kubeconfig, c.KubeContext = path, name
		all.Contexts[t.name] = c
		return nil
	})
}

// ownCommand is how kubectl starts us: by name where that finds us, so that an
// upgrade elsewhere on the path is followed, else by path.
func ownCommand() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	found, err := exec.LookPath("fleetctl")
	if err != nil {
		return self, nil
	}
	a, errA := os.Stat(self)
	b, errB := os.Stat(found)
	if errA == nil && errB == nil && os.SameFile(a, b) {
		return "fleetctl", nil
	}
	return self, nil
}
