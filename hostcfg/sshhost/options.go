package sshhost

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// Options says how to connect. The zero value of each field is its default.
type Options struct {
	// ConfigFiles are a person's SSH configuration files, usually
	// ~/.ssh/config, and SystemConfig the machine's, /etc/ssh/ssh_config. A
	// missing file is an empty one; none at all means no configuration.
	ConfigFiles  []string
	SystemConfig string
	// KnownHosts are known_hosts files; new keys go to the first. They take
	// the place of UserKnownHostsFile, for jump hosts as well. Empty means what
	// the configuration says, or ~/.ssh/known_hosts.
	KnownHosts []string
	// IdentityFiles are private keys to try on the target (not on jump hosts)
	// before those of the configuration.
	IdentityFiles []string
	// AgentSocket is the path of ssh-agent's socket (SSH_AUTH_SOCK, read by
	// the caller); empty means no agent.
	AgentSocket string
	// Home is the directory that ~ stands for in the configuration.
	Home string
	// LocalUser is who runs this program: the login name where none is given.
	LocalUser string
	// LocalUID, LocalHostname and LookupEnv (like os.LookupEnv) are what
	// tokens and ${VARIABLES} of the configuration stand for. Optional.
	LocalUID, LocalHostname string
	LookupEnv               func(string) (string, bool)

	// Asker answers questions; nil means that a question is an error.
	Asker Asker
	// Log gets what happens at debug and info level; nil drops it.
	Log *slog.Logger

	// DialTimeout bounds TCP connect and key exchange, each question's time
	// not counted; ConnectTimeout of the configuration overrides it.
	// Default 15 s.
	DialTimeout time.Duration
	// CommandTimeout bounds a script that names no timeout. Default 10 min.
	CommandTimeout time.Duration
	// KeepAlive is the time between keepalives; ServerAliveInterval of the
	// configuration overrides it. Three unanswered ones end the connection.
	// Default 15 s.
	KeepAlive time.Duration

	// DialContext opens TCP connections (not those through a jump host);
	// nil is a net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 15 * time.Second
	}
	if o.CommandTimeout <= 0 {
		o.CommandTimeout = 10 * time.Minute
	}
	if o.KeepAlive <= 0 {
		o.KeepAlive = 15 * time.Second
	}
	if o.DialContext == nil {
		o.DialContext = (&net.Dialer{}).DialContext
	}
	return o
}
