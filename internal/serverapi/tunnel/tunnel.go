// Package tunnel carries HTTP/2 over a websocket. What is between a client and
// fleet-server, such as an ingress, mostly speaks HTTP/1.1 to what is behind it:
// it does not keep both directions of a request open at once, and drops trailers.
// A websocket it passes on as it is. Who may do what is decided by the requests
// inside.
package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Path is where a server lets tunnels begin.
const Path = "/v1/tunnel"

// How a tunnel that is silent is kept: an ingress may end what says nothing for a
// minute.
const (
	pingEvery   = 20 * time.Second
	pingTimeout = 15 * time.Second
)

// conn is a websocket as a connection: binary messages, whose borders mean nothing.
type conn struct {
	*websocket.Conn
	message io.Reader // what is left of the one that is being read
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			_, message, err := c.NextReader()
			if err != nil {
				if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseNoStatusReceived) {
					err = io.EOF
				}
				return 0, err
			}
			c.message = message
		}
		n, err := c.message.Read(p)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// protocols are those inside of a tunnel.
func protocols() *http.Protocols {
	p := &http.Protocols{}
	p.SetUnencryptedHTTP2(true)
	return p
}

func pings() *http.HTTP2Config {
	return &http.HTTP2Config{SendPingTimeout: pingEvery, PingTimeout: pingTimeout}
}

// Server serves what comes through tunnels. Its Handler begins them.
type Server struct {
	inside *http.Server
	conns  listener
}

// NewServer serves the requests inside with handler, within the limits of outside.
func NewServer(handler http.Handler, outside *http.Server) *Server {
	s := &Server{conns: listener{accepted: make(chan net.Conn), closed: make(chan struct{})}}
	s.inside = &http.Server{Handler: handler, Protocols: protocols(), HTTP2: pings(), ReadHeaderTimeout: outside.ReadHeaderTimeout,
		ReadTimeout: outside.ReadTimeout, WriteTimeout: outside.WriteTimeout, IdleTimeout: outside.IdleTimeout,
		MaxHeaderBytes: outside.MaxHeaderBytes, ErrorLog: outside.ErrorLog}
	go func() { _ = s.inside.Serve(&s.conns) }() // until Shutdown
	return s
}

// ServeHTTP begins a tunnel.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{HandshakeTimeout: pingTimeout}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	select {
	case s.conns.accepted <- &conn{Conn: ws}:
	case <-s.conns.closed:
		_ = ws.Close()
	}
}

// Shutdown lets running requests end until ctx does, then cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.inside.Shutdown(ctx); err != nil {
		return errors.Join(err, s.inside.Close())
	}
	return nil
}

// listener hands over connections that began as requests.
type listener struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }
