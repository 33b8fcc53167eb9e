// Package serverapi is fleet-server's HTTPS API: enrolment of devices, what is
// known of a device, commands. It is the one place that checks who asks,
// writes the audit line, signs and forwards. Deployments are not here: they
// are Kubernetes objects.
package serverapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/internal/serverapi/tunnel"
	"github.com/nationtech/fleetctl/internal/serverapi/waiting"
	"github.com/nationtech/fleetctl/internal/signing/rotation"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Limits of a request; a slow or greedy client costs no more than this.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 15 * time.Second
	writeTimeout   = commandTimeout + 30*time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 64 << 10
	maxConcurrent  = 256
	maxStreams     = 128 // of them
)

// Reports reads what devices report.
type Reports interface {
	Get(ctx context.Context, b wire.Bucket, key string) (kv.Value, error)
}

// Registry remembers which machine has which id.
type Registry interface {
	Enrolled(q registry.Request) (bool, error)
	Enrol(ctx context.Context, q registry.Request, now time.Time) (registry.Entry, error)
	Revoke(ctx context.Context, device string, now time.Time) (registry.Entry, error)
	Get(device string) (registry.Entry, bool)
}

// Presence knows who is connected, and disconnects.
type Presence interface {
	Connection(device string) (presence.Connection, bool)
	Disconnect(ctx context.Context, device string) error
}

// Commander sends commands to devices.
type Commander interface {
	Send(ctx context.Context, r commands.Request, onData func([]byte)) error
	Stream(ctx context.Context, r commands.Request, onData func([]byte) error) error
	Session(ctx context.Context, r commands.Request, input <-chan wire.StreamInput, onData func([]byte) error) error
}

// Signing is the rotation of the signing key; *rotation.Rotation in production.
type Signing interface {
	Pinned() wire.PinnedKeys
	Status() rotation.Status
	Begin(ctx context.Context) error
	Finish(ctx context.Context, force bool) error
	Cancel(ctx context.Context) error
}

// Config of the API; everything is required but TLS, PSK, Pages, Stopping and
// what concerns metrics.
type Config struct {
	Listener net.Listener // plain TCP; the server closes it
	TLS      *tls.Config  // nil: plain HTTP, for behind something that ends TLS
	Auth     Authenticator
	Audit    AuditLog
	Registry Registry
	Reports  Reports
	Presence Presence
	Commands Commander
	// Ready says what is not up yet; nil when all is.
	Ready func(ctx context.Context) error
	// Signing has the keys that devices pin, and replaces them.
	Signing Signing
	// NATSURLs, CAPEM and PSK are what an enrolled device gets; PSK is nil
	// where devices have identities of their own only.
	NATSURLs []string
	CAPEM    []byte
	PSK      func(device string) string
	SignIn   api.SignIn
	// Pages serves every path that is not the API's; nil for none. It is given
	// the API, to act through it.
	Pages func(api http.Handler) http.Handler
	// Stopping is called once when the server begins to shut down: what would
	// go on for ever ends then. May be nil.
	Stopping func()
	// Joins are the devices that wait for approval, and Accounts the issuer,
	// called with the token of who approves, in an organisation ("" is theirs).
	Joins    *waiting.List
	Accounts func(token, org string) (DeviceAccounts, error)
	// Metrics are where the API's own metrics are registered; nil for nowhere.
	Metrics prometheus.Registerer
	// Scrape serves GET /metrics to who has the role of a viewer, or whom
	// Scraper lets in; nil where they are served elsewhere.
	Scrape  http.Handler
	Scraper Authenticator // may be nil
	Version string
	Log     *slog.Logger
}

// Server is a running API.
type Server struct {
	http   *http.Server
	addr   net.Addr
	served chan error
	tunnel *tunnel.Server
}

// Start serves until Shutdown.
func Start(cfg Config) (*Server, error) {
	h := newHandlers(cfg)
	counted, err := h.counted(withPages(h.routes(), cfg.Pages), cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("start HTTPS API: %w", err)
	}
	tlsConfig := cfg.TLS.Clone()
	if tlsConfig != nil {
		tlsConfig.NextProtos = []string{"h2", "http/1.1"}
	}
	s := &Server{addr: cfg.Listener.Addr(), served: make(chan error, 1), http: &http.Server{
		Handler:           counted,
		TLSConfig:         tlsConfig,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug), // what clients do wrong
	}}
	s.tunnel = tunnel.NewServer(counted, s.http)
	s.http.Handler = withTunnel(counted, s.tunnel)
	if cfg.Stopping != nil {
		s.http.RegisterOnShutdown(cfg.Stopping)
	}
	go func() {
		if tlsConfig == nil {
			s.served <- s.http.Serve(cfg.Listener)
			return
		}
		s.served <- s.http.ServeTLS(cfg.Listener, "", "")
	}()
	return s, nil
}

// withTunnel lets tunnels begin beside everything else.
func withTunnel(all, begin http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == tunnel.Path {
			begin.ServeHTTP(w, r)
			return
		}
		all.ServeHTTP(w, r)
	})
}

// withPages gives the API its paths, and pages the others.
func withPages(api http.Handler, pages func(http.Handler) http.Handler) http.Handler {
	if pages == nil {
		return api
	}
	mux := http.NewServeMux()
	for _, path := range []string{"/v1/", "/healthz", "/readyz", "/version", "/metrics"} {
		mux.Handle(path, api)
	}
	mux.Handle("/", pages(api))
	return mux
}

// Addr is where the API listens.
func (s *Server) Addr() net.Addr { return s.addr }

// Shutdown lets running requests end until ctx does, then cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.tunnel.Shutdown(ctx)
	if failed := s.http.Shutdown(ctx); failed != nil {
		err = errors.Join(err, failed, s.http.Close())
	}
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stop HTTPS API: %w", err)
	}
	return nil
}
