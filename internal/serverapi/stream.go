package serverapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	// silenceLimit is how long a device may say nothing. It is asked for a
	// sign of life more often than that.
	silenceLimit = 15 * time.Second
	// clientPatience is how long a client may take to accept one part.
	clientPatience = 30 * time.Second
	presenceLook   = time.Second
)

// errClientGone says that a part could not be handed on.
var errClientGone = errors.New("the client has gone")

// aboutTarget is the body of a streamed command.
type aboutTarget interface {
	wire.Target | wire.LogsRequest | wire.CopyRequest | wire.ExecRequest | wire.ForwardRequest
	Validate() error
}

// streamed serves a command whose answer is of any length, in plain bytes as
// they come. It ends when the device is done, the device goes or the client
// goes; a failure after the beginning is in a trailer.
func streamed[T aboutTarget](h *handlers, verb wire.Verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.serveStream(w, r, verb, func() (any, error) {
			var body T
			if err := decode(r, &body); err != nil {
				return nil, err
			}
			return body, invalid(body.Validate())
		}, h.stream)
	}
}

func invalid(err error) error {
	if err == nil {
		return nil
	}
	return fail(http.StatusBadRequest, api.CodeBadRequest, err.Error(), "")
}

// carryOut has a command carried out and hands its answer on.
type carryOut func(c call, verb wire.Verb, body any, out *part) error

// serveStream checks who asks and for what, keeps the record, and tells how it
// went.
func (h *handlers) serveStream(w http.ResponseWriter, r *http.Request, verb wire.Verb, read func() (any, error), do carryOut) {
	if err := h.cfg.Audit.Usable(); err != nil {
		h.answer(w, r, nil, err)
		return
	}
	out := &part{w: w, control: http.NewResponseController(w)}
	c, err := h.admit(r, role.Operator)
	var body any
	if err == nil {
		body, err = read()
	}
	action := string(verb)
	if err == nil {
		// Recorded before anything is shown: it may take hours until the end.
		action += " " + targetOf(body)
		err = h.record(c, action, "begun")
	}
	if err == nil {
		err = do(c, verb, body, out)
	}
	result := "ok"
	if err != nil {
		result = err.Error()
	}
	if failed := h.record(c, action, result); failed != nil {
		err = failed
	}
	switch {
	case err != nil && out.begun:
		h.trailer(w, r, err)
	case err != nil:
		h.answer(w, r, nil, err)
	case !out.begun:
		out.begin()
	}
}

func targetOf(body any) string {
	switch b := body.(type) {
	case wire.Target:
		return strings.TrimSuffix(b.Deployment+"/"+b.Service, "/")
	case wire.LogsRequest:
		return targetOf(b.Target)
	case wire.CopyRequest:
		return targetOf(b.Target) + " " + clipped(b.Path)
	case wire.ForwardRequest:
		return fmt.Sprintf("%s port %d", targetOf(b.Target), b.Port)
	case wire.ExecRequest:
		return fmt.Sprintf("%s %s", targetOf(b.Target), clipped(fmt.Sprintf("%q", b.Command)))
	}
	return ""
}

// clipped bounds what a person typed, for the record.
func clipped(s string) string {
	const most = 300
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// stream carries out one command and hands its answer on.
func (h *handlers) stream(c call, verb wire.Verb, body any, out *part) error {
	return h.steer(c, verb, body, out, func(ctx context.Context, request commands.Request) error {
		return h.cfg.Commands.Stream(ctx, request, out.write)
	})
}

// steer has send carry out a command, until the device or the client goes.
func (h *handlers) steer(c call, verb wire.Verb, body any, out *part, send func(context.Context, commands.Request) error) error {
	select {
	case h.long <- struct{}{}:
		defer func() { <-h.long }()
	default:
		return fail(http.StatusTooManyRequests, api.CodeBusy, "too many commands are under way", "end one that follows logs, or try again in a moment")
	}
	if err := h.online(c); err != nil {
		return err
	}
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	// The server's time limits are for requests of known length.
	if err := errors.Join(out.control.SetReadDeadline(time.Time{}), out.control.SetWriteDeadline(time.Time{})); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)
	go h.watchPresence(ctx, c, cancel)
	err = send(ctx, commands.Request{Device: c.device, Verb: verb, Body: data, Timeout: silenceLimit})
	var offline *failure
	switch {
	case err == nil:
		return nil
	case errors.As(context.Cause(ctx), &offline):
		return offline
	case c.Context().Err() != nil:
		return errClientGone
	}
	if errors.Is(err, errClientGone) {
		return errClientGone
	}
	return commandFailure(err)
}

// watchPresence ends ctx when the device goes offline.
func (h *handlers) watchPresence(ctx context.Context, c call, cancel context.CancelCauseFunc) {
	look := time.NewTicker(presenceLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if err := h.online(c); err != nil {
				cancel(err)
				return
			}
		}
	}
}

// trailer tells the client what went wrong after the answer began.
func (h *handlers) trailer(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errClientGone) {
		return
	}
	body := api.Error{Code: api.CodeInternal, Message: "the server failed; its log says why", Hint: hint.Of(err)}
	var f *failure
	if errors.As(err, &f) {
		body = f.body
	} else {
		h.cfg.Log.Error("request failed", "op", "api", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if data, err := json.Marshal(body); err == nil {
		w.Header().Set(http.TrailerPrefix+api.StreamErrorTrailer, string(data))
	}
}

// part hands parts of an answer on.
type part struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (p *part) begin() {
	p.begun = true
	p.w.Header().Set("Content-Type", "application/octet-stream")
	p.w.WriteHeader(http.StatusOK)
}

func (p *part) write(data []byte) error {
	if !p.begun {
		p.begin()
	}
	if err := p.control.SetWriteDeadline(time.Now().Add(clientPatience)); err != nil {
		return errors.Join(errClientGone, err)
	}
	if _, err := p.w.Write(data); err != nil {
		return errors.Join(errClientGone, err)
	}
	if err := p.control.Flush(); err != nil {
		return errors.Join(errClientGone, err)
	}
	// Until the next part there is nothing that could be late.
	return p.control.SetWriteDeadline(time.Time{})
}
