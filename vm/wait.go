package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// WaitFor is the state that Wait waits for; each includes those before it.
type WaitFor string

const (
	WaitNone      WaitFor = "none"
	WaitLease     WaitFor = "lease"      // the guest has an address
	WaitSSH       WaitFor = "ssh"        // its sshd greets
	WaitCloudInit WaitFor = "cloud-init" // first boot has come to its end
)

// Waiter waits for a guest.
type Waiter struct {
	Hypervisor Hypervisor
	Console    ConsoleReader // nil: phases are not known
	// Dial connects to the guest; nil is net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// FirstBoot reports whether first boot has ended, for WaitCloudInit. An
	// error with done says that it ended badly; alone, that it could not be asked.
	FirstBoot func(ctx context.Context, machine VM) (done bool, err error)
	// Report is told each phase once, when it is reached.
	Report func(phase Phase, since time.Duration)
}

const (
	pollEvery   = 250 * time.Millisecond
	bannerTime  = 10 * time.Second
	consoleTail = 64 << 10
	quoteLines  = 20
)

// Timeout is how long a start may take: minutes under KVM, and much longer
// when every instruction is emulated.
func Timeout(accel Accel) time.Duration {
	if accel == AccelKVM {
		return 5 * time.Minute
	}
	return 30 * time.Minute
}

// Wait returns the machine once it is as far as wanted. When ctx ends first
// the error names the phase that was stuck and quotes the console's last lines.
func (w Waiter) Wait(ctx context.Context, name string, want WaitFor) (VM, error) {
	progress := newProgress(w.Report)
	var last error
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		machine, err := w.Hypervisor.Get(ctx, name)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return VM{}, fmt.Errorf("wait for %s: %w", name, err)
		case want == WaitNone:
			return machine, nil
		case machine.State != Running:
			return VM{}, w.stuck(name, progress, want, fmt.Errorf("the machine is %s", machine.State))
		default:
			w.look(ctx, name, progress)
			var done bool
			if done, last = w.reached(ctx, machine, want, progress); done {
				return machine, last
			}
		}
		select {
		case <-ctx.Done():
			return VM{}, w.stuck(name, progress, want, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

// look reads the phase off the console. A console that cannot be read costs
// the progress lines only.
func (w Waiter) look(ctx context.Context, name string, progress *progress) {
	if w.Console == nil {
		return
	}
	if text, err := w.Console.ConsoleLog(ctx, name, consoleTail); err == nil {
		progress.reach(phaseOf(text))
	}
}

func (w Waiter) reached(ctx context.Context, machine VM, want WaitFor, progress *progress) (bool, error) {
	if machine.Address == "" {
		return false, errors.New("it has no address yet")
	}
	// An address that is there before the kernel is one from before.
	if w.Console == nil || rank(progress.phase) >= rank(PhaseKernel) {
		progress.reach(PhaseLease)
	}
	if want == WaitLease {
		return true, nil
	}
	if err := w.greets(ctx, machine.Address); err != nil {
		return false, err
	}
	progress.reach(PhaseSSH)
	if want == WaitSSH {
		return true, nil
	}
	done, err := w.FirstBoot(ctx, machine)
	if done && err != nil {
		return true, hint.Wrap(fmt.Errorf("first boot of %s: %w", machine.Name, err), "it runs; see more with: fleetctl vm ssh "+machine.Name+" -- cat /var/log/cloud-init.log")
	}
	if done {
		progress.reach(PhaseDone)
	}
	return done, err
}

// greets reads sshd's banner: a port that only accepts may be an sshd that
// has no host keys yet.
func (w Waiter) greets(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, bannerTime)
	defer cancel()
	dial := w.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", net.JoinHostPort(address, "22"))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	banner, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("sshd at %s does not greet: %w", address, err)
	}
	if !strings.HasPrefix(banner, "SSH-2.0-") {
		return fmt.Errorf("port 22 of %s is not SSH", address)
	}
	return nil
}

// stuck describes a wait that failed.
func (w Waiter) stuck(name string, progress *progress, want WaitFor, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	message := fmt.Errorf("wait for %s of %s: stuck in phase %s after %s: %w", want, name, progress.phase, progress.since().Round(time.Second), cause)
	if w.Console != nil {
		if text, err := w.Console.ConsoleLog(ctx, name, consoleTail); err == nil {
			message = fmt.Errorf("%w\nlast lines of its console:\n%s", message, quote(text))
		}
	}
	return hint.WithCode(hint.Wrap(message, "watch it: fleetctl vm console "+name+", or wait longer with --timeout"), hint.CodeUnreachable)
}
