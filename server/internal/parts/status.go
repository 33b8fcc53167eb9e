package parts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nationtech/fleetctl/server/internal/supervise"
)

const statusTimeout = 5 * time.Second

// check is one thing that has to be so before a part is ready.
type check struct {
	name string
	ok   func() error
}

// status answers who watches a part: /healthz while the process should go on,
// /readyz while it does its work, /metrics for Prometheus.
type status struct {
	up     atomic.Bool // every step of the start is done
	mu     sync.Mutex
	checks []check
}

func (s *status) add(name string, ok func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks = append(s.checks, check{name, ok})
}

func (s *status) ready() error {
	s.mu.Lock()
	checks := slices.Clone(s.checks)
	s.mu.Unlock()
	var errs []error
	if !s.up.Load() {
		errs = append(errs, errors.New("start: not complete yet"))
	}
	for _, c := range checks {
		if err := c.ok(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

// serve starts answering; without an address it does nothing.
func (s *status) serve(address string, metrics http.Handler, log *slog.Logger) (supervise.Part, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for health checks: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.ready(); err != nil {
			http.Error(w, strings.TrimSpace(err.Error()), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.Handle("GET /metrics", metrics)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: statusTimeout, ReadTimeout: statusTimeout, WriteTimeout: 2 * statusTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	log.Info("health checks", "address", listener.Addr().String())
	part := supervise.Loop(func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = server.Close() })
		defer stop()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return context.Cause(ctx)
	})
	return part, nil
}
