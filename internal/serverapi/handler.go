package serverapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// handlers answer requests with cfg's parts.
type handlers struct {
	cfg  Config
	busy chan struct{} // a slot for each request in work
	long chan struct{} // and for each of them that may take any time

	probes probes
}

// call is one authenticated request about one device, or about the fleet.
type call struct {
	*http.Request
	who    Principal
	device string // "": the fleet
}

// failure is an error with what the client is told. The cause goes to the log
// only when the fault is ours.
type failure struct {
	status int
	body   api.Error
	cause  error
}

func (f *failure) Error() string { return f.body.Message }

func fail(status int, code api.Code, message, hint string) error {
	return &failure{status: status, body: api.Error{Code: code, Message: message, Hint: hint}}
}

func newHandlers(cfg Config) *handlers {
	return &handlers{cfg: cfg, busy: make(chan struct{}, maxConcurrent), long: make(chan struct{}, maxStreams)}
}

func (h *handlers) routes() http.Handler {
	cfg := h.cfg
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.open(func(context.Context) (any, error) { return api.Health{Status: "ok"}, nil }))
	mux.HandleFunc("GET /readyz", h.open(h.ready))
	mux.HandleFunc("GET /version", h.open(func(context.Context) (any, error) {
		return api.Version{SchemaVersion: api.SchemaVersion, Version: cfg.Version}, nil
	}))
	mux.HandleFunc("GET /v1/devices/{id}", h.about(role.Viewer, h.getDevice))
	mux.HandleFunc("GET /v1/devices/{id}/probe", h.about(role.Viewer, h.probe))
	mux.HandleFunc("POST /v1/devices/{id}/enrolment", h.audited(role.Admin, "enrol", h.enrol))
	// On record as well: a preview holds the device's secret.
	mux.HandleFunc("POST /v1/devices/{id}/enrolment/preview", h.audited(role.Admin, "preview enrolment", h.preview))
	mux.HandleFunc("DELETE /v1/devices/{id}/enrolment", h.audited(role.Admin, "revoke", h.revoke))
	mux.HandleFunc("POST /v1/devices/{id}/commands/ping", h.audited(role.Operator, "ping", h.ping))
	mux.HandleFunc("POST /v1/devices/{id}/commands/restart", streamed[wire.Target](h, wire.VerbRestart))
	mux.HandleFunc("POST /v1/devices/{id}/commands/inspect", streamed[wire.Target](h, wire.VerbInspect))
	mux.HandleFunc("POST /v1/devices/{id}/commands/logs", streamed[wire.LogsRequest](h, wire.VerbLogs))
	mux.HandleFunc("POST /v1/joins", h.askJoin)
	mux.HandleFunc("PUT /v1/joins/{request}", h.revealJoin)
	mux.HandleFunc("GET /v1/joins/{request}", h.joinStatus)
	mux.HandleFunc("GET /v1/joins", h.pendingJoins)
	mux.HandleFunc("POST /v1/devices/{id}/join/approve", h.audited(role.Admin, "approve join", h.approveJoin))
	mux.HandleFunc("DELETE /v1/devices/{id}/join", h.audited(role.Admin, "deny join", h.denyJoin))
	mux.HandleFunc("POST /v1/devices/{id}/commands/stop", streamed[wire.Target](h, wire.VerbStop))
	mux.HandleFunc("POST /v1/devices/{id}/commands/start", streamed[wire.Target](h, wire.VerbStart))
	mux.HandleFunc("POST /v1/devices/{id}/commands/stat", streamed[wire.CopyRequest](h, wire.VerbStat))
	mux.HandleFunc("POST /v1/devices/{id}/commands/download", streamed[wire.CopyRequest](h, wire.VerbDownload))
	mux.HandleFunc("POST "+sessionPath+"exec", session[wire.ExecRequest](h, wire.VerbExec))
	mux.HandleFunc("POST "+sessionPath+"forward", session[wire.ForwardRequest](h, wire.VerbForward))
	mux.HandleFunc("POST "+sessionPath+"upload", session[wire.CopyRequest](h, wire.VerbUpload))
	mux.HandleFunc("GET /v1/audit", h.queryAudit)
	mux.HandleFunc("GET /v1/signing-key", h.about(role.Viewer, h.signingKey))
	mux.HandleFunc("POST /v1/signing-key/rotation", h.audited(role.Admin, "rotate signing key", h.rotate))
	mux.HandleFunc("POST /v1/signing-key/rotation/finish", h.audited(role.Admin, "finish rotation of signing key", h.finishRotation))
	mux.HandleFunc("POST /v1/signing-key/rotation/force", h.audited(role.Admin, "force end of rotation of signing key", h.forceRotation))
	mux.HandleFunc("DELETE /v1/signing-key/rotation", h.audited(role.Admin, "cancel rotation of signing key", h.cancelRotation))
	mux.HandleFunc("GET /v1/signin", h.open(func(context.Context) (any, error) { return cfg.SignIn, nil }))
	if cfg.Scrape != nil {
		mux.HandleFunc("GET /metrics", h.scrape)
	}
	return h.limited(mux)
}

// limited bounds bodies and concurrency, and turns what the mux itself refuses
// into our error format.
func (h *handlers) limited(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case h.busy <- struct{}{}:
			defer func() { <-h.busy }()
		default:
			h.answer(w, r, nil, fail(http.StatusTooManyRequests, api.CodeBusy, "too many requests at once", "try again in a moment"))
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, pattern := mux.Handler(r)
		if !strings.Contains(pattern, sessionPath) { // which read what is unlimited in pieces that are not
			r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		}
		if pattern == "" {
			h.answer(w, r, nil, h.unrouted(mux, r))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// unrouted tells a wrong method from a wrong path.
func (h *handlers) unrouted(mux *http.ServeMux, r *http.Request) error {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "" {
			return fail(http.StatusMethodNotAllowed, api.CodeMethod, r.Method+" is not possible here", "")
		}
	}
	return fail(http.StatusNotFound, api.CodeNotFound, "no such path", "client and server may be of different versions")
}

// open serves what everyone may ask.
func (h *handlers) open(f func(context.Context) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := f(r.Context())
		h.answer(w, r, body, err)
	}
}

// about serves a request about a device, from someone who may ask.
func (h *handlers) about(wants string, f func(call) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := h.admit(r, wants)
		if err != nil {
			h.answer(w, r, nil, err)
			return
		}
		body, err := f(c)
		h.answer(w, r, body, err)
	}
}

// admit authenticates a request, about a device or about the fleet, and asks for
// the role that it wants.
func (h *handlers) admit(r *http.Request, wants string) (c call, err error) {
	c.Request = r
	var invalid error
	if id := r.PathValue("id"); strings.Contains(r.Pattern, "{id}") {
		if invalid = wire.ValidateDeviceID(id); invalid == nil {
			c.device = id // on record also when it is refused
		}
	}
	if c.who, err = h.authorize(r, wants); err != nil {
		return c, err
	}
	if invalid != nil {
		return c, fail(http.StatusBadRequest, api.CodeBadRequest, invalid.Error(), "choose an id such as pi-1")
	}
	return c, nil
}

// authorize says who asks, also when they may not.
func (h *handlers) authorize(r *http.Request, wants string) (Principal, error) {
	who, err := h.cfg.Auth.Authenticate(r)
	if err != nil {
		h.cfg.Log.Info("token refused", "op", "api", "path", r.URL.Path, "error", err)
		return who, &failure{status: http.StatusUnauthorized, cause: err, body: api.Error{Code: api.CodeUnauthorized,
			Message: "the server does not accept this token", Hint: tokenHint(err)}}
	}
	if !role.Allows(who.Roles, wants) {
		return who, fail(http.StatusForbidden, api.CodeForbidden, who.Name+" may not do this: it takes the role "+wants,
			"ask an administrator for the role "+wants+"; see yours with: fleetctl whoami")
	}
	return who, nil
}

// decode reads a JSON body strictly: an unknown field is a newer client's
// wish that this server would ignore in silence.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("more follows the body")
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fail(http.StatusRequestEntityTooLarge, api.CodeTooLarge, fmt.Sprintf("the body exceeds %d bytes", large.Limit), "")
	case err != nil:
		return fail(http.StatusBadRequest, api.CodeBadRequest, "the body is not what is expected: "+err.Error(), "")
	}
	return nil
}

func (h *handlers) answer(w http.ResponseWriter, r *http.Request, body any, err error) {
	status := http.StatusOK
	if err != nil {
		var f *failure
		if !errors.As(err, &f) {
			h.cfg.Log.Error("request failed", "op", "api", "method", r.Method, "path", r.URL.Path, "error", err)
			f = &failure{status: http.StatusInternalServerError,
				body: api.Error{Code: api.CodeInternal, Message: "the server failed; its log says why", Hint: hint.Of(err)}}
		}
		status, body = f.status, api.ErrorBody{Error: f.body}
	}
	data, err := json.Marshal(body)
	if err != nil {
		h.cfg.Log.Error("answer not encoded", "op", "api", "path", r.URL.Path, "error", err)
		http.Error(w, `{"error":{"code":"internal","message":"the server failed"}}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="fleet-server"`)
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the client is gone, or it is not
}

func (h *handlers) ready(ctx context.Context) (any, error) {
	if err := h.cfg.Ready(ctx); err != nil {
		return nil, fail(http.StatusServiceUnavailable, api.CodeNotReady, err.Error(), hint.Of(err))
	}
	return api.Health{Status: "ok"}, nil
}
