// Package proxy is the HTTP proxy through which hosts and virtual machines of
// tests and the demo fetch Debian packages. It lets through what apt needs and
// nothing else: GET and HEAD, plain HTTP, to the mirrors that the machine's own
// apt uses. It owns no cache.
package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"time"
)

// Handler is a forward proxy to hosts, a list of "name" or "name:port".
func Handler(hosts []string) http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {}, // the request already names its target
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			MaxIdleConnsPerHost:   8,
			ResponseHeaderTimeout: 30 * time.Second,
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			http.Error(w, "only GET and HEAD go through this proxy", http.StatusMethodNotAllowed)
		case r.URL.Scheme != "http" || !slices.Contains(hosts, r.URL.Host):
			http.Error(w, "this proxy leads to package mirrors only", http.StatusForbidden)
		default:
			forward.ServeHTTP(w, r)
		}
	})
}

// Server is a running proxy.
type Server struct {
	listener net.Listener
	http     *http.Server
	done     chan error
}

// Start runs a proxy on addr for the mirrors of this machine's apt, and those
// in the apt sources below roots.
func Start(addr string, roots ...string) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start the package proxy: %w", err)
	}
	hosts, err := Mirrors(roots...)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return Serve(l, hosts), nil
}

// Serve runs a proxy on a listener that is already open.
func Serve(l net.Listener, hosts []string) *Server {
	s := &Server{
		listener: l,
		http:     &http.Server{Handler: Handler(hosts), ReadHeaderTimeout: 10 * time.Second},
		done:     make(chan error, 1),
	}
	go func() { s.done <- s.http.Serve(l) }()
	return s
}

// Addr is where the proxy listens, "IP:port".
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends the proxy and its connections.
func (s *Server) Close() error {
	err := s.http.Close()
	if serve := <-s.done; !errors.Is(serve, http.ErrServerClosed) {
		err = errors.Join(err, serve)
	}
	return err
}
