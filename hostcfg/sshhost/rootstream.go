package sshhost

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/hint"
)

var (
	_ hostcfg.Bus         = (*Host)(nil)
	_ hostcfg.Reconnector = (*Host)(nil)
)

// SystemBus opens a stream to the host's system bus in a session of its own.
// See hostcfg.Bus. A server that allows one session only gives an error, for
// the root shell has that one; so does a sudo that wants a password.
func (h *Host) SystemBus(ctx context.Context) (io.ReadWriteCloser, error) {
	s, err := h.rootProcess(ctx, "systemd-stdio-bridge")
	if err != nil {
		return nil, fmt.Errorf("%s: open the system bus: %w", h.Name(), err)
	}
	return s, nil
}

// becomeProcess is the line that makes a root shell into a program whose
// input and output are the session's.
const becomeProcess = `if command -v @P >/dev/null;then echo;echo $M at start;exec @P;fi;echo;echo $M at none;exit 1`

// errSecondPassword keeps a run to one authentication.
var errSecondPassword = errors.New("sudo wants the password again, and it is given once a run")

// rootProcess runs a program as root in a session of its own, where becoming
// root takes no password: the root shell's authentication is the only one of a
// run. Callers have another way; for units it is systemctl in the root shell.
func (h *Host) rootProcess(ctx context.Context, program string) (io.ReadWriteCloser, error) {
	if err := h.acquire(ctx); err != nil {
		return nil, err
	}
	link := h.link
	h.release() // the connection may carry other sessions meanwhile
	s, err := becomeRoot(ctx, link.client, func(context.Context) (secret, error) { return "", errSecondPassword })
	if err != nil {
		return nil, h.explain(link, err)
	}
	if err := s.write([]byte(fill(becomeProcess, "P", quote(program)) + "\n")); err != nil {
		s.stop()
		return nil, h.explain(link, err)
	}
	_, word, err := s.out.line(ctx, s.marker+" at ")
	if err == nil && word != "start" {
		err = fmt.Errorf("the host has no %s", program)
	}
	if err != nil {
		s.stop()
		return nil, h.explain(link, err)
	}
	return &process{s}, nil
}

// process is a program at the far end of a session.
type process struct{ shell *shell }

func (p *process) Read(b []byte) (int, error)  { return p.shell.out.Read(b) }
func (p *process) Write(b []byte) (int, error) { return p.shell.ch.Write(b) }

// Close ends the program's input and the session.
func (p *process) Close() error {
	_ = p.shell.ch.CloseWrite()
	if err := p.shell.ch.Close(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// worthless says of a failed attempt that the next one will fail as well.
func worthless(err error) bool {
	return errors.Is(err, errHostKey) || hint.Code(err) == hint.CodeDeclined
}
