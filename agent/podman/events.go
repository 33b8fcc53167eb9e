package podman

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	// eventsRetry is how long it takes to listen again after Podman went away.
	firstEventsRetry = time.Second
	lastEventsRetry  = 30 * time.Second
	// eventSettles lets several events of one change be one.
	eventSettles = 50 * time.Millisecond
)

// unimportant are events that change nothing of what is compared.
var unimportant = []string{"exec", "exec_died", "health_status", "attach", "mount", "unmount", "init", "sync", "cleanup"}

// event is one line of Podman's stream of events.
type event struct {
	Action string `json:"Action"`
	Actor  struct {
		Attributes map[string]string `json:"Attributes"` // name, image, and the labels
	} `json:"Actor"`
}

// concerns says whether a pass is due: something happened to a container of
// ours, or to one that has, or had, a name that we need.
func (e event) concerns() bool {
	if slices.Contains(unimportant, e.Action) {
		return false
	}
	_, ours := keyOf(e.Actor.Attributes)
	return ours || strings.HasPrefix(e.Actor.Attributes["name"], "fleet-")
}

// Watch has a pass made as soon as Podman tells of a change, until ctx ends.
// Without it, changes are found at the next tick.
func (r *Runtime) Watch(ctx context.Context) {
	delay := firstEventsRetry
	for ctx.Err() == nil {
		began := time.Now()
		err := r.client.events(ctx, func(e event) {
			if !e.concerns() {
				return
			}
			if e.Action == "rename" || e.Action == "remove" {
				r.hurry() // a name may be free now
			}
			r.later(eventSettles)
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastEventsRetry {
			delay = firstEventsRetry
		}
		r.log.Debug("Podman's events ended; listening again", "error", err, "retry_in", delay)
		sleep(ctx, delay)
		delay = min(2*delay, lastEventsRetry)
		r.later(0)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// events calls handle for each event about a container, until the stream ends.
func (c *Client) events(ctx context.Context, handle func(event)) error {
	query := url.Values{"stream": {"true"}, "filters": {`{"type":["container"]}`}}
	resp, err := c.send(ctx, http.MethodGet, "/events", query, nil)
	if err != nil {
		return fmt.Errorf("listen to Podman's events: %w", err)
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var e event
		if err := dec.Decode(&e); err != nil {
			return fmt.Errorf("listen to Podman's events: %w", err)
		}
		handle(e)
	}
}
