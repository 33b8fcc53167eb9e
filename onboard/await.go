package onboard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/hint"
)

// Watcher tells how the control plane sees a device.
type Watcher interface {
	// Alive is nil when the device has reported and its heartbeats arrive,
	// counting only what came after since (in the control plane's own terms: a
	// mark from Mark). The error says what is missing so far.
	Alive(ctx context.Context, device string, since Mark) error
	// Mark remembers what the control plane has heard so far, so that an
	// agent that was restarted is told from the one before.
	Mark(ctx context.Context, device string) (Mark, error)
}

// Mark is a point in a device's reports, by the control plane's clock.
type Mark struct{ LastHeartbeat time.Time }

const (
	awaitPoll    = 250 * time.Millisecond
	journalLines = 20
)

// Await waits until the control plane hears the device, at most for timeout.
// On failure the error quotes the agent's last journal lines.
func Await(ctx context.Context, h hostcfg.Host, w Watcher, device string, since Mark, timeout time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := errors.New("the control plane did not answer")
	for {
		err := w.Alive(waiting, device, since)
		if err == nil {
			return nil
		}
		if waiting.Err() == nil {
			last = err // not the deadline's own error
		}
		select {
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return hint.Wrap(fmt.Errorf("wait for the first heartbeat of %s: not within %s: %w\n%s", device, timeout, last, journal(ctx, h)),
				"can the device reach the server? look on it with: journalctl -u "+Unit)
		case <-time.After(awaitPoll):
		}
	}
}

// journal is the agent's last lines, for an error message.
func journal(ctx context.Context, h hostcfg.Host) string {
	script := fmt.Sprintf("systemctl show -P ActiveState,SubState,Result %s; journalctl --no-pager -o cat -n %d -u %[1]s", Unit, journalLines)
	r, err := h.Run(ctx, hostcfg.Command{Script: script, Timeout: 15 * time.Second, ReadOnly: true})
	if err != nil {
		return fmt.Sprintf("(the agent's journal could not be read: %v)", err)
	}
	return "the agent's last lines:\n  " + strings.ReplaceAll(strings.TrimSpace(string(r.Stdout)), "\n", "\n  ")
}
