package zitadel

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Codes of gRPC in the API's answers.
const (
	codeNotFound         = 5
	codeAlreadyExists    = 6
	codePermissionDenied = 7
	codePrecondition     = 9
	codeUnauthenticated  = 16
)

// Error is a refusal of the API.
type Error struct {
	Status  int    // HTTP
	Code    int    // gRPC; 0 when the answer is no management API's
	Message string // without ID
	ID      string // Zitadel's, such as AUTH-5mWD2: the place in its source
}

func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = fmt.Sprintf("HTTP %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.ID != "" {
		text += " (" + e.ID + ")"
	}
	return "the issuer says: " + text
}

// refusal reads an answer that is no success. Details name the cause in a real
// Zitadel; the embedded issuer, and Zitadel's older parts, have it in the
// message alone.
func refusal(status int, data []byte) error {
	var body struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Details []struct {
			ID      string `json:"id"`
			Message string `json:"message"`
		} `json:"details"`
	}
	e := &Error{Status: status}
	if json.Unmarshal(data, &body) != nil || body.Code == 0 {
		return e
	}
	e.Code, e.Message = body.Code, clip(body.Message)
	if text, id, ok := strings.Cut(strings.TrimSuffix(e.Message, ")"), " ("); ok && strings.HasSuffix(e.Message, ")") && !strings.Contains(id, " ") {
		e.Message, e.ID = text, id
	}
	return e
}

// MayNot says that an error is a refusal of what the caller has no right to, or of
// an issuer that has no such API as Zitadel's.
func MayNot(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Code == codePermissionDenied ||
		e.Code == 0 && (e.Status == http.StatusForbidden || e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed))
}

func is(err error, code int) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// IsNotFound says that what was named is not there, or not to be seen from the
// organisation that was acted in.
func IsNotFound(err error) bool { return is(err, codeNotFound) }

// isThere says that somebody else was first to make it.
func isThere(err error) bool { return is(err, codeAlreadyExists) }

// isUnchanged says that Zitadel refused a change because it changes nothing.
func isUnchanged(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == codePrecondition && strings.Contains(strings.ToLower(e.Message), "chang")
}

// explain adds to an error what to do about it. Zitadel answers alike to a
// token of the wrong organisation and to one without the role, so the
// organisation is asked about as well.
func (c *Client) explain(ctx context.Context, err error) error {
	var e *Error
	var untrusted *tls.CertificateVerificationError
	var network *url.Error
	issuer := c.base.Scheme + "://" + c.base.Host
	switch {
	case errors.As(err, &untrusted):
		return hint.WithCode(hint.Wrap(err, "name the issuer's authority with --ca-file FILE"), hint.CodeAuth)
	case errors.As(err, &network) && ctx.Err() == nil:
		return hint.WithCode(hint.Wrap(err, "check that the issuer can be reached from here: curl "+issuer+"/.well-known/openid-configuration"), hint.CodeUnreachable)
	case errors.Is(err, errNotZitadel), errors.As(err, &e) && e.Code == 0:
		return hint.WithCode(hint.Wrap(err, issuer+" has no management API; only a Zitadel and fleet-server's own issuer can be provisioned"), hint.CodeFailed)
	case !errors.As(err, &e):
		return err
	}
	switch e.Code {
	case codeUnauthenticated:
		return hint.WithCode(hint.Wrap(err, "sign in again with: fleetctl login; a token from elsewhere needs the scope "+ScopeAPI), hint.CodeAuth)
	case codePermissionDenied:
		return hint.WithCode(hint.Wrap(err, c.denied(ctx, e)), hint.CodeAuth)
	}
	return err
}

// denied tells the wrong organisation from a missing role.
func (c *Client) denied(ctx context.Context, e *Error) string {
	lower := strings.ToLower(e.Message)
	if strings.Contains(lower, "organisation") || strings.Contains(lower, "organization") || strings.Contains(lower, "membership") {
		if c.org == "" {
			return "your user is in no organisation that it may manage: name the fleet's with --org-id"
		}
		return "organisation " + c.org + " is not there for you: correct --org-id, or leave it out for your own"
	}
	role := "your user lacks the role: it takes fleet-admin at fleet-server's own issuer, and the manager role Org Owner at a Zitadel"
	var answer struct{ Org Org }
	if c.org == "" && c.roundTrip(ctx, http.MethodGet, nil, &answer, "orgs", "me") == nil {
		return role + fmt.Sprintf(" (asked in your own organisation %s, id %s; name another with --org-id)", answer.Org.Name, answer.Org.ID)
	}
	return role
}

// clip bounds what a stranger gets onto a terminal.
func clip(s string) string {
	const most = 200
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
