package podman

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// startingPause is between two checks of a service that is not healthy yet.
const startingPause = 2 * time.Second

// maxCheckOutput is how much of what a failed check says is kept, in bytes.
const maxCheckOutput = 512

// checkup is what is known of the health of one run of a container. The agent
// makes the checks, not Podman: Podman would start a process of its own for
// each, which on a small board costs more than the agent does in an hour.
type checkup struct {
	container string
	started   time.Time
	check     *wire.HealthCheck
	stop      context.CancelFunc

	status  wire.Health
	streak  int // failures in a row
	problem string
}

// about says whether the checkup is of this run by this check.
func (h *checkup) about(target *want, c Container) bool {
	return h != nil && h.container == c.ID && h.started.Equal(c.State.StartedAt) && sameCheck(h.check, target.health)
}

func sameCheck(a, b *wire.HealthCheck) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// checkups has the health of a running service checked. r.mu is held.
func (r *Runtime) checkups(ctx context.Context, w *worker, target *want, c Container) *checkup {
	if target.health == nil || c.State.Status != "running" {
		r.endCheckups(w)
		return nil
	}
	if w.health.about(target, c) {
		return w.health
	}
	r.endCheckups(w)
	ctx, stop := context.WithCancel(ctx)
	h := &checkup{container: c.ID, started: c.State.StartedAt, check: target.health, stop: stop, status: wire.HealthStarting}
	w.health = h
	r.group.Go(func() { r.keepChecking(ctx, h, target) })
	return h
}

func (r *Runtime) endCheckups(w *worker) {
	if w.health != nil {
		w.health.stop()
		w.health = nil
	}
}

func (r *Runtime) keepChecking(ctx context.Context, h *checkup, target *want) {
	interval := h.check.Interval.Or(wire.DefaultHealthInterval)
	var due <-chan time.Time
	for {
		err := r.checkOnce(ctx, h, target)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		before := h.status
		h.note(err, time.Now())
		news := h.status != before
		pause := interval
		if h.status == wire.HealthStarting {
			pause = min(interval, startingPause)
		}
		r.mu.Unlock()
		if news {
			r.log.Info("health changed", "deployment", target.deployment, "service", target.service, "health", h.status, "error", err)
			r.later(0)
		}
		due = time.After(pause)
		select {
		case <-ctx.Done():
			return
		case <-due:
		}
	}
}

// note counts one outcome.
func (h *checkup) note(err error, now time.Time) {
	if err == nil {
		h.status, h.streak, h.problem = wire.HealthHealthy, 0, ""
		return
	}
	h.problem = err.Error()
	if h.status == wire.HealthStarting && now.Before(h.started.Add(h.check.StartPeriod.Or(0))) {
		return
	}
	h.streak++
	retries := h.check.Retries
	if retries == 0 {
		retries = wire.DefaultHealthRetries
	}
	if h.streak >= retries {
		h.status = wire.HealthUnhealthy
	}
}

func (r *Runtime) checkOnce(ctx context.Context, h *checkup, target *want) error {
	timeout := h.check.Timeout.Or(wire.DefaultHealthTimeout)
	checking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var err error
	if h.check.HTTP != nil {
		err = r.get(checking, target.healthURL)
	} else {
		err = r.client.Check(checking, h.container, h.check.Command)
	}
	if errors.Is(checking.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", timeout)
	}
	return err
}

// get is one HTTP check. A redirection is an answer.
func (r *Runtime) get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "fleet-agent")
	resp, err := r.checker.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

// newChecker is the client of HTTP checks.
func newChecker() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Check runs a command in a container and gives an error unless it exits with
// 0.
func (c *Client) Check(ctx context.Context, container string, command []string) error {
	id, err := c.createExec(ctx, container, map[string]any{"Cmd": command, "AttachStdout": true, "AttachStderr": true})
	if err != nil {
		return fmt.Errorf("run the check: %w", err)
	}
	resp, err := c.send(ctx, http.MethodPost, "/exec/"+id+"/start", nil, map[string]any{"Detach": false})
	if err != nil {
		return fmt.Errorf("run the check: %w", err)
	}
	output, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("run the check: %w", err)
	}
	done, err := c.execState(ctx, id)
	if err != nil {
		return fmt.Errorf("run the check: %w", err)
	}
	if done.ExitCode == 0 && !done.Running {
		return nil
	}
	return fmt.Errorf("exit code %d: %s", done.ExitCode, lastWords(output))
}

// lastWords is the end of framed output as text.
func lastWords(framed []byte) string {
	var text []byte
	for len(framed) >= wire.FrameHeaderBytes && framed[0] <= wire.FrameStderr {
		n := int(framed[4])<<24 | int(framed[5])<<16 | int(framed[6])<<8 | int(framed[7])
		framed = framed[wire.FrameHeaderBytes:]
		n = min(n, len(framed))
		text = append(text, framed[:n]...)
		framed = framed[n:]
	}
	text = bytes.TrimSpace(append(text, framed...))
	return strings.ToValidUTF8(string(text[max(0, len(text)-maxCheckOutput):]), "?")
}
