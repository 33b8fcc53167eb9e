// Package session keeps, in fleetctl's configuration directory, the control
// planes that a person uses (contexts) and their sign-in at each (sessions), and
// renews those. Several processes may do so at once. It prints nothing and asks
// nobody.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

const schemaVersion = 1

// Context is one control plane, and how to sign in to it.
type Context struct {
	Server        string   `json:"server,omitempty"` // URL of fleet-server's HTTPS API
	CAPEM         string   `json:"ca,omitempty"`     // trusted beside the system's authorities
	Issuer        string   `json:"issuer"`
	ClientID      string   `json:"clientId"`
	ProjectID     string   `json:"projectId,omitempty"`
	Scopes        []string `json:"scopes,omitempty"` // beside the usual ones
	KubernetesURL string   `json:"kubernetesURL,omitempty"`
	// Kubeconfig is the file that has KubeContext, which kubectl uses.
	Kubeconfig  string `json:"kubeconfig,omitempty"`
	KubeContext string `json:"kubeContext,omitempty"`
}

// Contexts is all of them.
type Contexts struct {
	SchemaVersion int                `json:"schemaVersion"`
	Current       string             `json:"current,omitempty"`
	Contexts      map[string]Context `json:"contexts"`
}

// Names lists them in order.
func (c Contexts) Names() []string { return slices.Sorted(maps.Keys(c.Contexts)) }

// Get gives a context by name.
func (c Contexts) Get(name string) (Context, error) {
	found, ok := c.Contexts[name]
	if !ok {
		return found, hint.WithCode(hint.New(fmt.Sprintf("there is no context %q", name),
			"see them with: fleetctl context list, or make it with: fleetctl login --context "+name+" --server URL"), hint.CodeUsage)
	}
	return found, nil
}

// Store is a configuration directory. Nothing is touched before it is needed.
type Store struct{ Dir string }

func (s Store) contextsFile() string { return filepath.Join(s.Dir, "contexts.json") }
func (s Store) sessions() string     { return filepath.Join(s.Dir, "sessions") }

// Contexts reads them; none is no error.
func (s Store) Contexts() (Contexts, error) {
	out := Contexts{SchemaVersion: schemaVersion, Contexts: map[string]Context{}}
	data, err := os.ReadFile(s.contextsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("read contexts: %w", err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, hint.Wrap(fmt.Errorf("decode %s: %w", s.contextsFile(), err), "remove the file, and sign in again with: fleetctl login")
	}
	if out.Contexts == nil {
		out.Contexts = map[string]Context{}
	}
	return out, nil
}

// Change reads, changes and writes the contexts as one step.
func (s Store) Change(ctx context.Context, change func(*Contexts) error) error {
	unlock, err := s.lock(ctx, "contexts")
	if err != nil {
		return err
	}
	defer unlock()
	all, err := s.Contexts()
	if err != nil {
		return err
	}
	if err := change(&all); err != nil {
		return err
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode contexts: %w", err)
	}
	return secretfile.Write(s.contextsFile(), append(data, '\n'))
}

// lock keeps other processes away from what name names, until unlock or this
// process' end.
func (s Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := secretfile.EnsureDir(s.sessions()); err != nil {
		return nil, err
	}
	type locked struct {
		unlock func()
		err    error
	}
	got := make(chan locked, 1)
	go func() {
		unlock, err := lockedfile.MutexAt(filepath.Join(s.sessions(), name+".lock")).Lock()
		got <- locked{unlock, err}
	}()
	select {
	case l := <-got:
		if l.err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, l.err)
		}
		return l.unlock, nil
	case <-ctx.Done():
		go func() {
			if l := <-got; l.err == nil {
				l.unlock()
			}
		}()
		return nil, fmt.Errorf("wait for another fleetctl that uses %s: %w", name, context.Cause(ctx))
	}
}

var validName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// ValidateName refuses what would not do as the name of a context, and so of a
// file. Names end where ".json" and ".lock" begin.
func ValidateName(name string) error {
	if !validName.MatchString(name) || name == "contexts" {
		return hint.WithCode(hint.New(fmt.Sprintf("%q is no name for a context", name),
			"use letters, digits, dots and dashes, 63 at most"), hint.CodeUsage)
	}
	return nil
}
