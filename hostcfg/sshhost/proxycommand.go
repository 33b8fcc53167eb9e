package sshhost

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"time"
)

// commandConn is a ProxyCommand's input and output as a connection.
type commandConn struct {
	io.Reader
	io.WriteCloser
	cmd  *exec.Cmd
	once sync.Once
	err  error
}

// dialCommand starts a ProxyCommand with the local shell, as ssh does.
func dialCommand(command string) (net.Conn, error) {
	cmd := exec.Command("/bin/sh", "-c", "exec "+command)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start ProxyCommand: %w", err)
	}
	return &commandConn{Reader: out, WriteCloser: in, cmd: cmd}, nil
}

// Close ends the command: by the end of its input, and if that does not do, by
// a signal.
func (c *commandConn) Close() error {
	c.once.Do(func() {
		err := c.WriteCloser.Close()
		kill := time.AfterFunc(time.Second, func() { _ = c.cmd.Process.Kill() })
		defer kill.Stop()
		var status *exec.ExitError
		if werr := c.cmd.Wait(); werr != nil && !errors.As(werr, &status) {
			err = errors.Join(err, werr)
		}
		c.err = err
	})
	return c.err
}

type commandAddr struct{}

func (commandAddr) Network() string { return "proxycommand" }
func (commandAddr) String() string  { return "0.0.0.0:0" }

func (c *commandConn) LocalAddr() net.Addr  { return commandAddr{} }
func (c *commandConn) RemoteAddr() net.Addr { return commandAddr{} }

var errNoDeadline = errors.New("a ProxyCommand has no deadlines")

func (c *commandConn) SetDeadline(time.Time) error      { return errNoDeadline }
func (c *commandConn) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (c *commandConn) SetWriteDeadline(time.Time) error { return errNoDeadline }
