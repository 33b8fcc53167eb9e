// Package sshtest is an SSH server and a slow network for tests: a real
// protocol implementation with real shells behind it, in the test's process,
// with knobs for what real servers do wrong. It runs commands on this machine
// as the user of the test; it is no sandbox.
package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Config says how a server behaves. The zero value accepts nobody.
type Config struct {
	// AuthorizedKeys may log in as any user.
	AuthorizedKeys []ssh.PublicKey
	// Password, when set, is accepted with the password method.
	Password string
	// Interactive are prompts and the answers that they want; when set, the
	// keyboard-interactive method is offered.
	Interactive [][2]string
	// HostKey identifies the server; nil makes a new one.
	HostKey ssh.Signer
	// PlainKey is shown to clients that do not want a HostKey with a certificate.
	PlainKey ssh.Signer
	// Banner is sent before authentication.
	Banner string

	// Shell is the login shell, given -c and the command. Default /bin/sh.
	Shell string
	// Noise is printed to stdout and stderr before each command, as a noisy
	// rc file does.
	Noise string
	// Env is added to the environment of commands.
	Env []string
	// MaxSessions is how many sessions a connection may have at a time; 0
	// is no limit.
	MaxSessions int
	// NoForward refuses to forward connections, which jumps need.
	NoForward bool
	// CutAfterCommands closes the connection when so many commands have
	// been started, 0 never.
	CutAfterCommands int
}

// Server is a listening server.
type Server struct {
	Addr    string // host:port on loopback
	HostKey ssh.PublicKey

	config   Config
	ssh      *ssh.ServerConfig
	listener net.Listener
	open     sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]bool
	accepted atomic.Int64
	commands atomic.Int64
}

// NewKey makes a key.
func NewKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// NewServer starts a server on a free port of 127.0.0.1 that ends with the test.
func NewServer(t testing.TB, c Config) *Server {
	t.Helper()
	if c.HostKey == nil {
		c.HostKey = NewKey(t)
	}
	if c.Shell == "" {
		c.Shell = "/bin/sh"
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		Addr: l.Addr().String(), HostKey: c.HostKey.PublicKey(),
		config: c, listener: l, conns: map[net.Conn]bool{},
	}
	s.ssh = s.authentication()
	s.open.Add(1)
	go s.serve()
	t.Cleanup(s.Close)
	return s
}

// Close ends all connections and waits for what ran on them.
func (s *Server) Close() {
	_ = s.listener.Close()
	s.Cut()
	s.open.Wait()
}

// Cut closes all connections; the server goes on listening.
func (s *Server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}

// Authorized are the keys that may log in.
func (s *Server) Authorized() []ssh.PublicKey { return s.config.AuthorizedKeys }

// Connections is how many were accepted so far.
func (s *Server) Connections() int { return int(s.accepted.Load()) }

func (s *Server) serve() {
	defer s.open.Done()
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.accepted.Add(1)
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		s.open.Add(1)
		go func() {
			defer s.open.Done()
			s.handle(conn)
			_ = conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		}()
	}
}

var errRefused = errors.New("refused")

func (s *Server) authentication() *ssh.ServerConfig {
	c := &ssh.ServerConfig{}
	if s.config.Banner != "" {
		c.BannerCallback = func(ssh.ConnMetadata) string { return s.config.Banner }
	}
	if len(s.config.AuthorizedKeys) > 0 {
		c.PublicKeyCallback = func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			for _, k := range s.config.AuthorizedKeys {
				if string(k.Marshal()) == string(key.Marshal()) {
					return nil, nil
				}
			}
			return nil, errRefused
		}
	}
	if s.config.Password != "" {
		c.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if string(p) == s.config.Password {
				return nil, nil
			}
			return nil, errRefused
		}
	}
	if len(s.config.Interactive) > 0 {
		c.KeyboardInteractiveCallback = s.interactive
	}
	c.AddHostKey(s.config.HostKey)
	if s.config.PlainKey != nil {
		c.AddHostKey(s.config.PlainKey)
	}
	return c
}

func (s *Server) interactive(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	var prompts []string
	for _, q := range s.config.Interactive {
		prompts = append(prompts, q[0])
	}
	got, err := ask("", "", prompts, make([]bool, len(prompts)))
	if err != nil || len(got) != len(prompts) {
		return nil, errRefused
	}
	for i, q := range s.config.Interactive {
		if got[i] != q[1] {
			return nil, errRefused
		}
	}
	return nil, nil
}
