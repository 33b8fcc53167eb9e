package dashboard

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nationtech/fleetctl/internal/dashboard/session"
)

const (
	maxStreams = 1000 // at once
	// streamPatience is how long a browser may take to accept an event.
	streamPatience = 30 * time.Second
	// keepAlive is below what proxies take for dead.
	keepAlive = 20 * time.Second
)

// events writes server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

var streams atomic.Int32

// openStream begins an event stream that ends with the session's access token:
// the browser comes back, with the roles that the person has then. Call end
// at its end.
func (d *Dashboard) openStream(w http.ResponseWriter, r *http.Request, who *session.Session) (ctx context.Context, e *events, end func(), err error) {
	if streams.Add(1) > maxStreams {
		streams.Add(-1)
		return nil, nil, nil, &problem{status: http.StatusTooManyRequests, title: "Too many", text: "Too many pages are open at once."}
	}
	e = &events{w: w, control: http.NewResponseController(w)}
	// The server's time limits are for answers of known length.
	if err := e.control.SetReadDeadline(time.Time{}); err != nil {
		streams.Add(-1)
		return nil, nil, nil, err
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("X-Accel-Buffering", "no")
	ctx, cancel := context.WithDeadline(r.Context(), who.Expires)
	stop := context.AfterFunc(d.stopping, cancel)
	return ctx, e, func() {
		stop()
		cancel()
		streams.Add(-1)
	}, nil
}

// send writes one event; browsers join the lines of its data again.
func (e *events) send(name string, data []byte) error { return e.sendWithID(name, "", data) }

// sendWithID has the browser say the id when it comes back.
func (e *events) sendWithID(name, id string, data []byte) error {
	var buf bytes.Buffer
	buf.Grow(len(data) + 64)
	if id != "" {
		buf.WriteString("id: " + id + "\n")
	}
	buf.WriteString("event: " + name + "\n")
	for line := range bytes.Lines(data) {
		buf.WriteString("data: ")
		buf.Write(bytes.TrimRight(line, "\r\n"))
		buf.WriteByte('\n')
	}
	if len(data) == 0 {
		buf.WriteString("data: \n")
	}
	buf.WriteByte('\n')
	return e.write(buf.Bytes())
}

// comment says nothing, and shows that somebody is there.
func (e *events) comment() error { return e.write([]byte(": \n\n")) }

func (e *events) write(data []byte) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(streamPatience)); err != nil {
		return err
	}
	if _, err := e.w.Write(data); err != nil {
		return err
	}
	return e.control.Flush()
}

// stream serves what changes of a screen.
func (d *Dashboard) stream(wants string, open opener) http.Handler {
	return d.needs(wants, func(w http.ResponseWriter, r *http.Request, who *session.Session) error {
		snap, err := d.snapshot()
		if err != nil {
			return err
		}
		s, err := open(r, who, snap)
		if err != nil {
			return err
		}
		if s.live == nil {
			return errNoPage
		}
		ctx, e, end, err := d.openStream(w, r, who)
		if err != nil {
			return err
		}
		defer end()
		seen, _ := strconv.ParseUint(r.FormValue("v"), 10, 64) // none has seen nothing
		v, leave := d.hub.watch(ctx, *s.live, seen)
		defer leave()
		if e.comment() != nil {
			return nil // the browser has gone
		}
		beat := time.NewTicker(keepAlive)
		defer beat.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-beat.C:
				if e.comment() != nil {
					return nil
				}
			case <-v.wake:
				for name, body := range v.take() {
					if e.send(name, body) != nil {
						return nil
					}
				}
			}
		}
	})
}
