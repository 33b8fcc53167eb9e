package guest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/term"
)

// Terminal is where a person sits.
type Terminal struct {
	In   *os.File
	Out  io.Writer
	Type string // TERM
}

// Shell gives a person a login shell, or runs a command on a terminal. The
// terminal is raw meanwhile and put back at the end.
func (c *Client) Shell(ctx context.Context, command string, t Terminal) error {
	session, err := c.NewSession()
	if err != nil {
		return fmt.Errorf("open a session: %w", err)
	}
	defer session.Close()
	fd := int(t.In.Fd())
	width, height, err := term.GetSize(fd)
	if err != nil {
		width, height = 80, 24
	}
	if err := session.RequestPty(t.Type, height, width, ssh.TerminalModes{}); err != nil {
		return fmt.Errorf("ask the guest for a terminal: %w", err)
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("set the terminal up: %w", err)
	}
	defer term.Restore(fd, before)
	session.Stdin, session.Stdout, session.Stderr = t.In, t.Out, t.Out
	defer context.AfterFunc(ctx, func() { c.Close() })()
	defer followSize(session, fd)()
	if command == "" {
		err = session.Shell()
	} else {
		err = session.Start(command)
	}
	if err != nil {
		return fmt.Errorf("start the shell: %w", err)
	}
	return outcome(ctx, session.Wait())
}

// followSize tells the guest whenever the window changes, until stop.
func followSize(session *ssh.Session, fd int) (stop func()) {
	changed := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for {
			select {
			case <-changed:
				if width, height, err := term.GetSize(fd); err == nil {
					_ = session.WindowChange(height, width)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
	}
}
