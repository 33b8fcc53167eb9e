// Package registry is the container registry of tests and of the demo: plain
// HTTP, on an address that hosts or virtual machines reach, its content in a
// directory that a later run finds again. It also makes and pushes the app
// image that they run. It is no registry for anything else: whoever reaches it
// may push.
package registry

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
)

// Server is a running registry.
type Server struct {
	listener net.Listener
	http     *http.Server
	login    *Login
	close    func() error
}

// Login is what a registry asks for, by HTTP basic authentication.
type Login struct{ User, Password string }

// Start runs a registry for a test, on addr, with its content in a directory
// that goes with the test.
func Start(t testing.TB, addr string) *Server {
	t.Helper()
	return start(t, addr, nil)
}

// StartPrivate is Start for a registry that serves nobody without the login.
func StartPrivate(t testing.TB, addr string, l Login) *Server {
	t.Helper()
	return start(t, addr, &l)
}

func start(t testing.TB, addr string, login *Login) *Server {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("start a registry: %v", err)
	}
	s, err := serveTo(l, t.TempDir(), login)
	if err != nil {
		t.Fatalf("start a registry: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("stop the registry: %v", err)
		}
	})
	return s
}

// Serve runs a registry on a listener that is already open, which it closes in
// the end, with its content in dir.
func Serve(l net.Listener, dir string) (*Server, error) { return serveTo(l, dir, nil) }

func serveTo(l net.Listener, dir string, login *Login) (*Server, error) {
	blobs := filepath.Join(dir, "blobs")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	store := manifests{dir: filepath.Join(dir, "manifests"), next: ggcr.New(
		ggcr.WithBlobHandler(ggcr.NewDiskBlobHandler(blobs)), ggcr.Logger(log.New(io.Discard, "", 0)))}
	if err := store.restore(); err != nil {
		return nil, errors.Join(fmt.Errorf("restore the registry's manifests: %w", err), l.Close())
	}
	s := &Server{
		listener: l,
		http:     &http.Server{Handler: login.guard(store), ReadHeaderTimeout: 10 * time.Second},
		login:    login,
	}
	done := make(chan error, 1)
	go func() { done <- s.http.Serve(l) }()
	s.close = sync.OnceValue(func() error {
		err := s.http.Close()
		if serve := <-done; !errors.Is(serve, http.ErrServerClosed) {
			err = errors.Join(err, serve)
		}
		return err
	})
	return s, nil
}

// guard lets only those in that have the login; everybody without one.
func (l *Login) guard(next http.Handler) http.Handler {
	if l == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != l.User || password != l.Password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Addr is where the registry listens and how its images' names begin.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close stops the registry; its content stays. Closing it again is fine.
func (s *Server) Close() error { return s.close() }
