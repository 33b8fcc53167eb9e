package sshhost

import (
	"context"
	"fmt"
	"time"
)

// While a host boots it is tried again after retryPause, and an attempt that
// meets silence is given up after attemptTimeout.
const (
	retryPause     = 500 * time.Millisecond
	attemptTimeout = 10 * time.Second
)

// Reconnect dials until the host accepts us. See hostcfg.Reconnector. What a
// person was asked before is not asked again.
func (h *Host) Reconnect(ctx context.Context) error {
	if err := h.acquire(ctx); err != nil {
		return err
	}
	defer h.release()
	h.drop()
	var last error // of an attempt that ran its course
	for try := 1; ; try++ {
		attempt, cancel := context.WithTimeoutCause(ctx, attemptTimeout, fmt.Errorf("%w (%s)", errTooSlow, attemptTimeout))
		link, err := h.dialer.dial(attempt)
		cancel()
		if err == nil {
			h.link = link
			h.dialer.Log.Debug("reconnected", "host", h.Name(), "op", "reconnect", "attempts", try)
			return nil
		}
		if worthless(err) {
			return fmt.Errorf("reconnect: %w", err)
		}
		if ctx.Err() == nil || last == nil {
			last = err // else the attempt only tells that ctx has ended
		}
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return fmt.Errorf("reconnect: %w after %d attempts; the last: %w", context.Cause(ctx), try, last)
		}
	}
}
