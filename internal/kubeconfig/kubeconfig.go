// Package kubeconfig puts a fleet into a kubeconfig file, and takes it out
// again. It touches nobody else's entries; kubectl may change the file meanwhile.
package kubeconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Entry is a fleet as kubectl reaches it.
type Entry struct {
	Name   string // of context, cluster and user
	Server string // URL
	CAPEM  []byte // empty: the system's authorities
	// Command, Args and Env of the credential plugin.
	Command string
	Args    []string
	Env     map[string]string
}

// File is where an entry belongs that nobody named a file for: the one that
// has it already, else the one that kubectl would write to.
func File(name string) string {
	options := clientcmd.NewDefaultPathOptions()
	for _, path := range options.GetLoadingPrecedence() {
		if config, err := clientcmd.LoadFromFile(path); err == nil && config.Contexts[name] != nil {
			return path
		}
	}
	return options.GetDefaultFilename()
}

// Put adds the entry to the file, or replaces the one of that name. It becomes
// the current context where there is none; current says whether it is.
func Put(ctx context.Context, path string, e Entry) (current bool, err error) {
	err = change(ctx, path, func(c *clientcmdapi.Config) bool {
		cluster := clientcmdapi.NewCluster()
		cluster.Server, cluster.CertificateAuthorityData = e.Server, e.CAPEM
		c.Clusters[e.Name] = cluster
		user := clientcmdapi.NewAuthInfo()
		user.Exec = &clientcmdapi.ExecConfig{
			APIVersion: "client.authentication.k8s.io/v1", Command: e.Command, Args: e.Args,
			InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
			InstallHint:     "kubectl signs in to this fleet through fleetctl, which is not at " + e.Command,
		}
		for name, value := range e.Env {
			user.Exec.Env = append(user.Exec.Env, clientcmdapi.ExecEnvVar{Name: name, Value: value})
		}
		c.AuthInfos[e.Name] = user
		context := c.Contexts[e.Name]
		if context == nil { // else its namespace stays
			context = clientcmdapi.NewContext()
			c.Contexts[e.Name] = context
		}
		context.Cluster, context.AuthInfo = e.Name, e.Name
		if c.CurrentContext == "" {
			c.CurrentContext = e.Name
		}
		current = c.CurrentContext == e.Name
		return true
	})
	return current, err
}

// Remove takes the entry out. One that is not there is no error.
func Remove(ctx context.Context, path, name string) error {
	return change(ctx, path, func(c *clientcmdapi.Config) bool {
		_, there := c.Contexts[name]
		delete(c.Contexts, name)
		delete(c.Clusters, name)
		delete(c.AuthInfos, name)
		if c.CurrentContext == name {
			c.CurrentContext = ""
		}
		return there
	})
}

// change rewrites the file unless edit says that there is nothing to do.
// clientcmd's own ModifyConfig writes in place, so that a reader may see half
// a file.
func change(ctx context.Context, path string, edit func(*clientcmdapi.Config) bool) error {
	what := "change kubeconfig " + path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // the link stays one
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	unlock, err := lock(ctx, path)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer unlock()
	config, err := clientcmd.LoadFromFile(path)
	mode := fs.FileMode(0o600)
	switch info, statErr := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		config = clientcmdapi.NewConfig()
	case err != nil:
		return hint.Wrap(fmt.Errorf("%s: %w", what, err), "mend the file, name another with --kubeconfig FILE, or leave it alone with --no-kubeconfig")
	case statErr == nil:
		mode = info.Mode().Perm()
	}
	if !edit(config) {
		return nil
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := replace(path, data, mode); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func replace(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".kubeconfig-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone already when it was renamed
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

const (
	lockWait = 10 * time.Second
	lockPoll = 50 * time.Millisecond
)

// lock is kubectl's: a file beside the other, that must not be there.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	name := path + ".lock"
	for deadline := time.Now().Add(lockWait); ; {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL, 0)
		if err == nil {
			_ = file.Close() // nothing was written to it
			return func() { _ = os.Remove(name) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, hint.New("another program has held its lock for "+lockWait.String(), "if none is running: rm "+name)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(lockPoll):
		}
	}
}
