package serverapi

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

// AuditLog keeps what was done.
type AuditLog interface {
	Usable() error
	Append(r audit.Record, at time.Time) (audit.Record, error)
	Query(f audit.Filter) (audit.Result, error)
}

const (
	auditDefault = 200   // records of an answer
	auditMost    = 5_000 // an answer stays below what clients read
)

// audited is about with a record of every try by someone we know: a change or
// a command. What cannot be recorded is not done. Strangers are in the log
// alone, lest they fill the disk.
func (h *handlers) audited(wants, action string, f func(call) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := h.cfg.Audit.Usable(); err != nil {
			h.answer(w, r, nil, err)
			return
		}
		c, err := h.admit(r, wants)
		var body any
		if err == nil {
			body, err = f(c)
		}
		outcome := "ok"
		if err != nil {
			outcome = err.Error()
		}
		if failed := h.record(c, action, outcome); failed != nil {
			body, err = nil, failed
		}
		h.answer(w, r, body, err)
	}
}

func (h *handlers) record(c call, action, outcome string) error {
	from, _, _ := net.SplitHostPort(c.RemoteAddr)
	attrs := []slog.Attr{slog.String("op", action), slog.String("who", c.who.Name), slog.String("device", c.device),
		slog.String("from", from), slog.String("outcome", outcome)}
	var err error
	if c.who.Name != "" {
		var r audit.Record
		r, err = h.cfg.Audit.Append(audit.Record{Who: c.who.Name, Subject: c.who.Subject, Action: action,
			Device: c.device, From: from, Outcome: outcome}, time.Now())
		// The hash in another place is what finds a log that was forged as a whole.
		attrs = append(attrs, slog.Uint64("record", r.Sequence), slog.String("hash", r.Hash))
	}
	h.cfg.Log.LogAttrs(c.Context(), slog.LevelInfo, "audit", attrs...)
	return err
}

// queryAudit answers an administrator.
func (h *handlers) queryAudit(w http.ResponseWriter, r *http.Request) {
	if _, err := h.authorize(r, role.Admin); err != nil {
		h.answer(w, r, nil, err)
		return
	}
	f, err := auditFilter(r)
	if err != nil {
		h.answer(w, r, nil, fail(http.StatusBadRequest, api.CodeBadRequest, err.Error(), "see: fleetctl audit --help"))
		return
	}
	result, err := h.cfg.Audit.Query(f)
	h.answer(w, r, api.Audit{SchemaVersion: api.SchemaVersion, Result: result}, err)
}

func auditFilter(r *http.Request) (f audit.Filter, err error) {
	q := r.URL.Query()
	f = audit.Filter{Device: q.Get("device"), Who: q.Get("user"), Limit: auditDefault}
	if since := q.Get("since"); since != "" {
		if f.Since, err = time.Parse(time.RFC3339, since); err != nil {
			return f, fmt.Errorf("since: %q is no RFC 3339 time", since)
		}
	}
	if limit := q.Get("limit"); limit != "" {
		if f.Limit, err = strconv.Atoi(limit); err != nil || f.Limit < 1 || f.Limit > auditMost {
			return f, fmt.Errorf("limit: %q is not between 1 and %d", limit, auditMost)
		}
	}
	return f, nil
}
