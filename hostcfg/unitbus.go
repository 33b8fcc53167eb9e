package hostcfg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// session is what the operations of one Apply share: the host, and its
// systemd once an operation has asked for it.
type session struct {
	host  Host
	bus   *dbus.Conn
	noBus bool // there is none; systemctl it is
}

func (s *session) close() {
	if s.bus != nil {
		s.bus.Close()
	}
}

// busTimeout bounds opening the bus. A host without systemd-stdio-bridge says
// so at once; this is for one that says nothing.
const busTimeout = 10 * time.Second

// manager returns the host's system manager over D-Bus, or nil where it cannot
// be had: a host that opens no stream, has no systemd-stdio-bridge, or allows
// too few sessions. systemctl then does the same.
func (s *session) manager(ctx context.Context) *dbus.Conn {
	opener, ok := s.host.(Bus)
	if !ok || s.noBus || s.bus != nil && s.bus.Connected() {
		return s.bus
	}
	conn, err := dbus.NewConnection(func() (*godbus.Conn, error) { return dialBus(ctx, opener) })
	if err != nil {
		s.noBus, s.bus = true, nil
		return nil
	}
	s.bus = conn
	return conn
}

// dialBus opens a stream and brings it to where go-systemd takes over. The
// bridge has authenticated itself to the bus as root; its near side is a pipe
// and takes anybody.
func dialBus(ctx context.Context, opener Bus) (*godbus.Conn, error) {
	opening, cancel := context.WithTimeout(ctx, busTimeout)
	defer cancel()
	stream, err := opener.SystemBus(opening)
	if err != nil {
		return nil, err
	}
	// The stream knows no deadline; closing it ends a greeting that hangs.
	stop := context.AfterFunc(opening, func() { _ = stream.Close() })
	defer stop()
	conn, err := godbus.NewConn(stream)
	if err != nil {
		_ = stream.Close()
		return nil, err
	}
	if err := conn.Auth([]godbus.Auth{godbus.AuthAnonymous()}); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	if err := conn.Hello(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("greet the bus: %w", err)
	}
	return conn, nil
}

// overBus does the operation over D-Bus. The job's result comes as a signal,
// when the unit is up or has failed.
func (o *unitOp) overBus(ctx context.Context, m *dbus.Conn) error {
	ctx, cancel := context.WithTimeoutCause(ctx, jobTimeout, fmt.Errorf("no end of the job after %s", jobTimeout))
	defer cancel()
	unit := []string{o.target.unit}
	reload := o.reload
	if o.enable == "disable" || o.enable == "reenable" {
		if _, err := m.DisableUnitFilesContext(ctx, unit, false); err != nil {
			return fmt.Errorf("disable %s: %w", o.target.unit, err)
		}
		reload = true
	}
	if o.enable == "enable" || o.enable == "reenable" {
		if _, _, err := m.EnableUnitFilesContext(ctx, unit, false, true); err != nil {
			return fmt.Errorf("enable %s: %w", o.target.unit, err)
		}
		reload = true
	}
	if reload {
		if err := m.ReloadContext(ctx); err != nil {
			return fmt.Errorf("let systemd read its files: %w", err)
		}
	}
	if o.job == "" {
		return nil
	}
	verbs := map[string]func(context.Context, string, string, chan<- string) (int, error){
		"start": m.StartUnitContext, "stop": m.StopUnitContext, "restart": m.RestartUnitContext,
	}
	result := make(chan string, 1)
	if _, err := verbs[o.job](ctx, o.target.unit, "replace", result); err != nil {
		return fmt.Errorf("%s %s: %w", o.job, o.target.unit, err)
	}
	return o.await(ctx, m, result)
}

// await waits for the job's result. Signals stop without a word when the
// connection breaks, so that is watched as well.
func (o *unitOp) await(ctx context.Context, m *dbus.Conn, result <-chan string) error {
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	for {
		select {
		case r := <-result:
			if r != "done" {
				return &jobError{o.target.unit, o.job, r}
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s %s: %w", o.job, o.target.unit, context.Cause(ctx))
		case <-alive.C:
			if !m.Connected() {
				return fmt.Errorf("%s %s: %w", o.job, o.target.unit, errors.New("connection to systemd lost"))
			}
		}
	}
}

// jobError is a job that systemd carried out without success.
type jobError struct {
	unit, job, result string // result as JobRemoved names it: failed, timeout, dependency, …
}

func (e *jobError) Error() string {
	return fmt.Sprintf("%s %s: result %q", e.job, e.unit, e.result)
}
