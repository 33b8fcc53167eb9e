// Package guest speaks SSH to a virtual machine that fleetctl made: it knows
// the login, the key, and the guest's host key, which was put into the guest
// before it first started, so that no connection is trusted unseen. Real
// devices are reached by hostcfg/sshhost.
package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Target is a guest and how to log in.
type Target struct {
	Address string // IP address
	User    string
	KeyPath string // private key file
	HostKey string // "ssh-ed25519 AAAA…"; "" accepts any, for guests made without one
}

// Client is a connection.
type Client struct{ *ssh.Client }

const dialTime = 20 * time.Second // emulated guests take seconds for a handshake

// connect dials again while the guest's port of the bridge is not open yet, as
// in the seconds after a start from memory.
func connect(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if !errors.Is(err, syscall.EHOSTUNREACH) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Dial connects and logs in.
func Dial(ctx context.Context, t Target) (*Client, error) {
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(t.Address, "22")
	conn, err := connect(ctx, address)
	if err != nil {
		return nil, hint.WithCode(fmt.Errorf("connect to %s: %w", address, err), hint.CodeUnreachable)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	ssh0, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, hint.WithCode(fmt.Errorf("log in to %s@%s: %w", t.User, address, errors.Join(err, ctx.Err())), hint.CodeAuth)
	}
	return &Client{ssh.NewClient(ssh0, channels, requests)}, nil
}

func (t Target) config() (*ssh.ClientConfig, error) {
	private, err := os.ReadFile(t.KeyPath)
	if err != nil {
		return nil, fmt.Errorf("read the SSH key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(private)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, hint.WithCode(hint.New("the SSH key "+t.KeyPath+" has a passphrase", "use ssh itself, or a key without one"), hint.CodeAuth)
	}
	if err != nil {
		return nil, fmt.Errorf("read the SSH key %s: %w", t.KeyPath, err)
	}
	config := &ssh.ClientConfig{
		User:    t.User,
		Auth:    []ssh.AuthMethod{ssh.PublicKeys(signer)},
		Timeout: dialTime,
	}
	if t.HostKey == "" {
		config.HostKeyCallback = ssh.InsecureIgnoreHostKey()
		return config, nil
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(t.HostKey))
	if err != nil {
		return nil, fmt.Errorf("read the guest's host key: %w", err)
	}
	config.HostKeyCallback = ssh.FixedHostKey(key)
	config.HostKeyAlgorithms = []string{key.Type()}
	return config, nil
}

// ExitError is the status that a command in the guest ended with.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

// Streams are a command's.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs a command line with the login's shell; a status other than 0 is an
// *ExitError. When ctx ends the connection is cut.
func (c *Client) Run(ctx context.Context, command string, streams Streams) error {
	session, err := c.NewSession()
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	defer session.Close()
	session.Stdin, session.Stdout, session.Stderr = streams.In, streams.Out, streams.Err
	defer context.AfterFunc(ctx, func() { c.Close() })()
	return outcome(ctx, session.Run(command))
}

// Output runs a command and returns what it printed on stdout.
func (c *Client) Output(ctx context.Context, command string) (string, error) {
	var out, stderr bytes.Buffer
	err := c.Run(ctx, command, Streams{Out: &out, Err: &stderr})
	if err != nil && stderr.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out.String(), err
}

// outcome turns the library's error into ours.
func outcome(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var exit *ssh.ExitError
	var missing *ssh.ExitMissingError
	switch {
	case errors.As(err, &exit):
		return &ExitError{exit.ExitStatus()}
	case errors.As(err, &missing):
		return hint.WithCode(errors.New("the connection to the guest was lost"), hint.CodeUnreachable)
	}
	return err
}
