package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// How often a start after a stop is tried.
const (
	startTries = 10
	startPause = time.Second
)

// targets gives the fleet's containers that t is about, ordered by service.
func (r *Runtime) targets(ctx context.Context, t wire.Target) ([]Summary, error) {
	labels := []string{labelManaged + "=true", labelDeployment + "=" + t.Deployment}
	if t.Service != "" {
		labels = append(labels, labelService+"="+t.Service)
	}
	list, err := r.client.List(ctx, labels...)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, &wire.ReplyError{Code: wire.ReplyNotFound, Message: r.missing(t)}
	}
	slices.SortFunc(list, func(a, b Summary) int { return strings.Compare(a.Labels[labelService], b.Labels[labelService]) })
	return list, nil
}

// missing says why there is no container.
func (r *Runtime) missing(t wire.Target) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.deployments[t.Deployment]
	switch {
	case d == nil:
		return fmt.Sprintf("deployment %s is not on this device", t.Deployment)
	case t.Service != "" && d.fault == nil && d.wants[key{t.Deployment, t.Service}] == nil:
		return fmt.Sprintf("deployment %s has no service %s", t.Deployment, t.Service)
	}
	return fmt.Sprintf("deployment %s has no container yet", t.Deployment)
}

// Restart stops and starts the containers of t, one after the other.
func (r *Runtime) Restart(ctx context.Context, t wire.Target) error {
	list, err := r.targets(ctx, t)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		k, ours := keyOf(c.Labels)
		if !ours {
			continue
		}
		errs = append(errs, r.intents.SetStopped(k.String(), false)) // who restarts wants it running
		r.hold(k, true)
		errs = append(errs, r.restart(ctx, c))
		r.hold(k, false)
	}
	return errors.Join(errs...)
}

// hold keeps the worker of a service from it, or no longer. A start that comes
// between Podman's stopping a container and cleaning up after it makes the stop fail.
func (r *Runtime) hold(k key, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.worker(k).held = held
	r.later(0)
}

// restart does not use Podman's own restart: with pasta (Podman 5) that fails
// at times, since the old pasta still holds the ports.
func (r *Runtime) restart(ctx context.Context, c Summary) error {
	if err := r.client.Stop(ctx, c.ID, r.stopTimeout(c)); err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		err := r.client.Start(ctx, c.ID)
		if err == nil || tries == startTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(startPause):
		}
	}
}

func (r *Runtime) stopTimeout(c Summary) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ours := keyOf(c.Labels); ours {
		if w := r.wanted(k); w != nil {
			return w.stopTimeout
		}
	}
	return wire.DefaultStopTimeout
}

// Inspect gives what Podman says of the containers of t, as a JSON array.
func (r *Runtime) Inspect(ctx context.Context, t wire.Target) ([]byte, error) {
	list, err := r.targets(ctx, t)
	if err != nil {
		return nil, err
	}
	all := make([]json.RawMessage, len(list))
	for i, c := range list {
		if err := r.client.call(ctx, http.MethodGet, "/containers/"+c.ID+"/json", nil, nil, &all[i]); err != nil {
			return nil, fmt.Errorf("inspect container %s: %w", short(c.ID), err)
		}
	}
	data, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("encode what Podman says: %w", err)
	}
	return data, nil
}

// Logs writes the output of one service in frames, for as long as its
// container exists when r.Follow is set.
func (r *Runtime) Logs(ctx context.Context, req wire.LogsRequest, out io.Writer) error {
	c, err := r.one(ctx, req.Target)
	if err != nil {
		return err
	}
	body, err := r.client.Logs(ctx, c.ID, req)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(out, body); err != nil {
		return fmt.Errorf("follow the logs of %s: %w", c.Names, err)
	}
	return nil
}

// Logs gives a container's output in frames; the caller closes it.
func (c *Client) Logs(ctx context.Context, id string, r wire.LogsRequest) (io.ReadCloser, error) {
	query := url.Values{"stdout": {"true"}, "stderr": {"true"}, "follow": {strconv.FormatBool(r.Follow)}}
	if r.SinceSeconds > 0 {
		query.Set("since", time.Now().Add(-time.Duration(r.SinceSeconds)*time.Second).UTC().Format(time.RFC3339))
	}
	if r.Tail > 0 {
		query.Set("tail", strconv.Itoa(r.Tail))
	}
	resp, err := c.send(ctx, http.MethodGet, "/containers/"+id+"/logs", query, nil)
	if err != nil {
		return nil, fmt.Errorf("read the logs of container %s: %w", short(id), err)
	}
	return resp.Body, nil
}
