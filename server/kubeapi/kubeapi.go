// Package kubeapi is a Kubernetes API inside this process: upstream's generic
// control plane (namespaces, secrets, RBAC, events, leases, custom resources; no
// pods, no nodes) on an embedded etcd, with upstream's namespace and
// garbage-collection controllers.
//
// It owns the data directory it is given, its listener, its admin identity and
// its kubeconfig. The serving certificate is its caller's, and it knows nothing
// of fleets: custom resources are installed by whoever defines them.
package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"k8s.io/client-go/rest"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// Config says where a Server lives and how it is reached. All fields but
// Authenticators are required.
type Config struct {
	DataDir  string       // private to this package
	Listener net.Listener // TCP; closed by the Server
	URL      string       // what the kubeconfig points to, such as https://127.0.0.1:6443
	CertFile string       // serving certificate, PEM; renewals are followed
	KeyFile  string       // its key, PEM
	CAPEM    []byte       // the authority that clients check CertFile against
	Log      *slog.Logger

	// Authenticators are the token issuers whose tokens are accepted beside the
	// admin certificate and service account tokens. An issuer that cannot be
	// reached does not hinder the start: its tokens are refused until it can.
	Authenticators []apiserverv1.JWTAuthenticator
	// AuditLog is a file that gets a line for each request; empty: none does.
	AuditLog string
}

// Server is a running Kubernetes API.
type Server struct {
	dir        string
	logs       upstreamLogs
	rest       *rest.Config
	api        *apiProcess
	store      *store
	stopOnce   sync.Once
	stopped    chan struct{}
	stopErr    error
	background *controllers
}

// Start starts a Server and returns when it answers readiness checks; ctx bounds
// only that. An error says which part was not ready; nothing is left running then.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	if err := secretfile.EnsureDir(cfg.DataDir); err != nil {
		_ = cfg.Listener.Close()
		return nil, err
	}
	s := &Server{dir: cfg.DataDir, stopped: make(chan struct{})}
	s.logs.capture(cfg.Log)

	creds, err := openCredentials(cfg.DataDir)
	if err != nil {
		_ = cfg.Listener.Close()
		return nil, fmt.Errorf("prepare credentials: %w", err)
	}
	s.rest = creds.restConfig(cfg.URL, cfg.CAPEM)
	if err := writeKubeconfig(s.KubeconfigPath(), s.rest); err != nil {
		_ = cfg.Listener.Close()
		return nil, err
	}

	// From here on Stop undoes what was done so far, in the right order.
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()
	if s.store, err = openStore(ctx, filepath.Join(cfg.DataDir, "etcd"), &zapToSlog{&s.logs, cfg.Log.With("component", "etcd")}); err != nil {
		_ = cfg.Listener.Close()
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	if s.api, err = startAPI(cfg, creds, s.store.endpoint, &s.logs); err != nil {
		return nil, fmt.Errorf("start API server: %w", err)
	}
	if err := s.api.waitReady(ctx, s.rest); err != nil {
		return nil, err
	}
	if s.background, err = startControllers(s.rest, cfg.Log); err != nil {
		return nil, fmt.Errorf("start its controllers: %w", err)
	}
	s.logs.steady.Store(true)
	return s, nil
}

// KubeconfigPath is the administrator's kubeconfig: mode 0600, everything inline.
func (s *Server) KubeconfigPath() string { return filepath.Join(s.dir, "admin.kubeconfig") }

// RESTConfig is the administrator's access, a fresh copy each time.
func (s *Server) RESTConfig() *rest.Config { return rest.CopyConfig(s.rest) }

// Done is closed when the API has ended, asked or not; Err then says why.
func (s *Server) Done() <-chan struct{} { return s.api.done }

// Err is why the API ended: nil while it runs and after Stop.
func (s *Server) Err() error { return s.api.unexpectedErr() }

// Stop ends controllers, API and etcd, in this order, and waits for each. When
// ctx ends first the rest is stopped all the same, without waiting for requests
// in flight. Stopping twice is fine.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		defer close(s.stopped)
		s.logs.steady.Store(false)
		if s.background != nil {
			s.background.stop()
		}
		if s.api != nil {
			s.stopErr = s.api.stop(ctx)
		}
		if s.store != nil {
			s.store.close()
		}
	})
	<-s.stopped
	return s.stopErr
}
