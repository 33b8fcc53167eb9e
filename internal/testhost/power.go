package testhost

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func (h *Host) powerOn(ctx context.Context) (err error) {
	if h.machine, err = startMachine(h.slot); err != nil {
		return err
	}
	return h.waitBoot(ctx)
}

// PowerOn boots a host that is off and waits for sshd.
func (h *Host) PowerOn(t testing.TB) {
	t.Helper()
	if err := h.powerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Kill cuts the power: nothing on the host gets to say goodbye.
func (h *Host) Kill(t testing.TB) {
	t.Helper()
	if err := h.machine.kill(); err != nil {
		t.Fatal(err)
	}
}

// PowerOff shuts the host down in order and waits until it is off.
func (h *Host) PowerOff(t testing.TB) {
	t.Helper()
	_, _ = h.Run(t.Context(), "systemctl --no-block poweroff") // its shell may die before it answers
	select {
	case <-h.machine.stopped:
	case <-time.After(h.options.Boot):
		t.Fatalf("%s is still on %s after poweroff:\n%s", h.options.Hostname, h.options.Boot, h.Console(20))
	}
}

// Reboot restarts the host in order and waits for sshd.
func (h *Host) Reboot(t testing.TB) {
	t.Helper()
	h.machine.mu.Lock()
	rebooted := h.machine.rebooted
	h.machine.mu.Unlock()
	_, _ = h.Run(t.Context(), "systemctl --no-block reboot") // its shell may die before it answers
	select {
	case <-rebooted:
	case <-time.After(h.options.Boot):
		t.Fatalf("%s did not go down for a reboot in %s:\n%s", h.options.Hostname, h.options.Boot, h.Console(20))
	}
	if err := h.waitBoot(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// NetworkDown pulls the host's cable; connections see silence, not an end.
func (h *Host) NetworkDown(t testing.TB) {
	t.Helper()
	h.cable(t, "down")
}

// NetworkUp plugs the cable in again.
func (h *Host) NetworkUp(t testing.TB) {
	t.Helper()
	h.cable(t, "up")
}

func (h *Host) cable(t testing.TB, state string) {
	t.Helper()
	if err := ip(t.Context(), fmt.Sprintf("link set %s %s", h.slot.veth(), state)); err != nil {
		t.Fatal(err)
	}
}
