// Package allinone is the whole control plane in one process, with its state in
// one directory: certificates, Kubernetes API, and what runs on them. It owns the
// order in which parts start and stop and what happens when one fails; what the
// parts do is in their packages.
package allinone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/server/internal/lockfile"
	"github.com/nationtech/fleetctl/server/internal/ports"
	"github.com/nationtech/fleetctl/server/internal/supervise"
	"github.com/nationtech/fleetctl/server/kubeapi"
)

// quotedLines is how much of the log the error of a failed start carries.
const quotedLines = 12

// server is a control plane while it starts and runs.
type server struct {
	Config
	names
	*supervise.Supervisor

	ports *ports.Book
	ca    *pki.CA
	kube  *kubeapi.Server

	endpoints Endpoints
}

// Run starts a control plane, calls ready once it serves, and runs it until ctx
// ends or a part of it fails; it returns when everything has been stopped.
func Run(ctx context.Context, cfg Config, ready func(Endpoints) error) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return fmt.Errorf("locate data directory: %w", err)
	}
	if err := secretfile.EnsureDir(cfg.DataDir); err != nil {
		return err
	}
	lock, err := lockfile.Acquire(cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Release()

	s := &server{Config: cfg, Supervisor: supervise.New(cfg.Log.Logger)}
	defer func() {
		err = errors.Join(err, removeEndpoints(cfg.DataDir), s.Stop())
	}()
	if err := s.startAll(ctx); err != nil {
		return err
	}
	if err := writeEndpoints(cfg.DataDir, s.endpoints); err != nil {
		return err
	}
	if err := ready(s.endpoints); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		cfg.Log.Info("stopping")
		return nil
	case err := <-s.Failed():
		return err
	}
}

// startAll is the order of things. Each step may use what the ones before it
// made.
func (s *server) startAll(ctx context.Context) error {
	steps := []struct {
		name string
		run  func(context.Context) (supervise.Part, error)
	}{
		{"names and ports", s.openNames},
		{"certificate authority", s.openCA},
		{"Kubernetes API", s.startKube},
	}
	starting, cancel := context.WithTimeoutCause(ctx, s.StartTimeout,
		fmt.Errorf("not up within %s", s.StartTimeout))
	defer cancel()
	for _, step := range steps {
		if err := s.Start(starting, step.name, step.run); err != nil {
			return s.explain(ctx, starting, err)
		}
	}
	return nil
}

// explain adds the end of the log to the error of a start that took too long:
// there the error alone says only which part it was.
func (s *server) explain(ctx, starting context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: %w", err)
	case starting.Err() == nil:
		return err
	}
	return hint.Wrap(fmt.Errorf("%w\nlast log lines:\n  %s", err, strings.Join(s.Log.Last(quotedLines), "\n  ")),
		fmt.Sprintf("see %s, or allow more time with --start-timeout", s.Log.Path()))
}

func (s *server) openNames(context.Context) (_ supervise.Part, err error) {
	if s.names, err = s.Config.names(); err != nil {
		return nil, err
	}
	s.ports, err = ports.Open(s.DataDir, s.ListenAddress)
	return nil, err
}

func (s *server) openCA(context.Context) (_ supervise.Part, err error) {
	s.ca, err = pki.Open(filepath.Join(s.DataDir, "pki"))
	if err != nil {
		return nil, err
	}
	s.endpoints = Endpoints{
		SchemaVersion: endpointsSchema,
		CAFile:        s.ca.Path(),
		LogFile:       s.Log.Path(),
		PID:           os.Getpid(),
	}
	return nil, nil
}

func (s *server) startKube(ctx context.Context) (supervise.Part, error) {
	cert, err := s.ca.ServerCert("kubernetes", s.hosts)
	if err != nil {
		return nil, err
	}
	listener, err := s.ports.Listen(s.kubeRequest())
	if err != nil {
		return nil, err
	}
	s.kube, err = kubeapi.Start(ctx, kubeapi.Config{
		DataDir:  filepath.Join(s.DataDir, "kube"),
		Listener: listener,
		URL:      endpointURL("https", s.local, portOf(listener)),
		CertFile: cert.CertFile,
		KeyFile:  cert.KeyFile,
		CAPEM:    s.ca.PEM(),
		Log:      s.Log.Logger,
	})
	if err != nil {
		return nil, err
	}
	s.endpoints.Kubeconfig = s.kube.KubeconfigPath()
	s.endpoints.KubernetesURL = endpointURL("https", s.public, portOf(listener))
	return s.kube, nil
}
