// Package allinone is the whole control plane in one process, with its state in
// one directory: certificates, issuer, Kubernetes API, NATS, operator, HTTPS API. It owns the
// order in which parts start and stop and what happens when one fails; what the
// parts do is in their packages.
package allinone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/dashboard"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/signing/rotation"
	"github.com/nationtech/fleetctl/operator"
	"github.com/nationtech/fleetctl/server/internal/lockfile"
	"github.com/nationtech/fleetctl/server/internal/metrics"
	"github.com/nationtech/fleetctl/server/internal/ports"
	"github.com/nationtech/fleetctl/server/internal/supervise"
	"github.com/nationtech/fleetctl/server/kubeapi"
)

// quotedLines is how much of the log the error of a failed start carries.
const quotedLines = 12

// server is a control plane while it starts and runs. Each field is set by one
// step of startAll, for the steps after it.
type server struct {
	Config
	names
	*supervise.Supervisor

	ports       *ports.Book
	ca          *pki.CA
	certs       []*pki.ServerCert
	issuer      *issuer.Issuer
	audit       *audit.Log
	tokens      *verify.Verifier
	issuerHTTP  *http.Client // trusts our CA
	kube        *kubeapi.Server
	broker      *broker.Broker
	registry    *registry.Registry
	fleetKey    []byte
	signer      *signing.Signer
	guard       *presence.Guard
	rotation    *rotation.Rotation
	presence    *presence.Tracker
	operator    *operator.Operator
	dashboard   *dashboard.Dashboard
	apiListener net.Listener
	metrics     *prometheus.Registry

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

	s := &server{Config: cfg, Supervisor: supervise.New(cfg.Log.Logger), metrics: metrics.New("all", cfg.Version)}
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
		{"keys and certificates", s.openKeys},
		{"issuer", s.startIssuer},
		{"Kubernetes API", s.startKube},
		{"custom resources", s.installCRDs},
		{"roles", s.bindRoles},
		{"device registry", s.startRegistry},
		{"audit log", s.startAudit},
		{"NATS", s.startBroker},
		{"auth callout", s.startCallout},
		{"presence", s.startPresence},
		{"operator", s.startOperator},
		{"signing key", s.startRotation},
		{"dashboard", s.startDashboard},
		{"HTTPS API", s.startAPI},
		{"metrics", s.measure},
		{"certificate renewal", s.keepCerts},
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
