package dashboard

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/internal/identity/role"
)

const (
	maxBodyBytes = 64 << 10
	// SignedOutPath is where the issuer sends people who signed out.
	SignedOutPath = "/auth/signedout"
	signInPath    = "/auth/signin"
)

// contentPolicy lets nothing in but what this server sends as files: no inline
// script or style, no other origin.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// problem is what a person is told instead of a page.
type problem struct {
	status            int
	title, text, hint string
	link, linkText    string
	cause             error // for the log; nil when the person knows all
}

func (p *problem) Error() string { return p.text }
func (p *problem) Unwrap() error { return p.cause }

var errNoPage = &problem{status: http.StatusNotFound, title: "Nothing here", text: "There is no such page.", link: "/", linkText: "To the start page"}

// protected sets what holds for every answer.
func (d *Dashboard) protected(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r)
	})
}

// handler answers somebody who is signed in.
type handler func(w http.ResponseWriter, r *http.Request, who *session.Session) error

type contextKey int

const (
	tokenKey contextKey = iota
	addressKey
)

// tokenOf and addressOf let the HTTPS API see the person and not us.
func tokenOf(ctx context.Context) (string, error) {
	token, ok := ctx.Value(tokenKey).(session.Token)
	if !ok {
		return "", errors.New("nobody is signed in")
	}
	return string(token), nil
}

func addressOf(ctx context.Context) string {
	address, _ := ctx.Value(addressKey).(string)
	return address
}

// guarded lets people in who are signed in, and sends others to sign in.
func (d *Dashboard) guarded(next handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := d.cfg.Sessions.Get(w, r)
		switch {
		case errors.Is(err, session.ErrNone):
			d.sendToSignIn(w, r)
			return
		case err != nil:
			d.refuse(w, r, nil, issuerProblem(err))
			return
		}
		ctx := context.WithValue(r.Context(), tokenKey, who.Token)
		ctx = context.WithValue(ctx, addressKey, r.RemoteAddr)
		r = r.WithContext(ctx)
		if err := next(w, r, who); err != nil {
			d.refuse(w, r, who, err)
		}
	})
}

// needs is guarded for those who have a role.
func (d *Dashboard) needs(wants string, next handler) http.Handler {
	return d.guarded(func(w http.ResponseWriter, r *http.Request, who *session.Session) error {
		if !who.Allows(wants) {
			return forbidden(who, wants)
		}
		return next(w, r, who)
	})
}

// does is needs for what changes something: the request has to come from a
// page of ours.
func (d *Dashboard) does(wants string, next handler) http.Handler {
	return d.needs(wants, func(w http.ResponseWriter, r *http.Request, who *session.Session) error {
		if !who.Genuine(r) {
			return errForged
		}
		return next(w, r, who)
	})
}

var errForged = &problem{status: http.StatusForbidden, title: "Not from this page",
	text: "The request did not come from a page of this dashboard, so nothing was done.",
	hint: "Reload the page and try again."}

func forbidden(who *session.Session, wants string) error {
	if len(role.OfPeople(who.Roles)) == 0 {
		return &problem{status: http.StatusForbidden, title: "No role in this fleet",
			text: who.Name + " is signed in, and has no role in this fleet.",
			hint: "Ask an administrator for the role " + role.Viewer + " or more, then sign out and in again."}
	}
	return &problem{status: http.StatusForbidden, title: "Not allowed",
		text: who.Name + " may not do this: it takes the role " + wants + ".",
		hint: "Ask an administrator for it, then sign out and in again.", link: "/", linkText: "To the start page"}
}

func issuerProblem(err error) error {
	return &problem{status: http.StatusServiceUnavailable, title: "Sign-in is not possible now",
		text: "The issuer that people sign in with does not answer as it should.",
		hint: "Try again in a moment. The server’s log says what is wrong.", cause: err}
}

// sendToSignIn answers a request without a session in the way that its sender
// understands.
func (d *Dashboard) sendToSignIn(w http.ResponseWriter, r *http.Request) {
	to := signInPath
	switch {
	case strings.HasPrefix(r.URL.Path, "/live/"):
		http.Error(w, "not signed in", http.StatusUnauthorized)
	case r.Header.Get("HX-Request") != "":
		if u, err := url.Parse(r.Header.Get("HX-Current-URL")); err == nil {
			to += "?to=" + url.QueryEscape(session.LocalPath(u.RequestURI()))
		}
		w.Header().Set("HX-Redirect", to)
		http.Error(w, "not signed in", http.StatusUnauthorized)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		http.Redirect(w, r, to+"?to="+url.QueryEscape(session.LocalPath(r.URL.RequestURI())), http.StatusSeeOther)
	default:
		d.refuse(w, r, nil, &problem{status: http.StatusUnauthorized, title: "Signed out",
			text: "Your session is over, so nothing was done.", link: to, linkText: "Sign in"})
	}
}

// refuse tells a person why there is no page.
func (d *Dashboard) refuse(w http.ResponseWriter, r *http.Request, who *session.Session, err error) {
	if r.Context().Err() != nil {
		return // nobody is left to tell
	}
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{status: http.StatusInternalServerError, title: "The server failed", text: "The server’s log says why.", cause: err}
	}
	if p.cause != nil {
		d.cfg.Log.Error("request failed", "op", "dashboard", "method", r.Method, "path", r.URL.Path, "error", p.cause)
	}
	if r.Header.Get("HX-Request") != "" {
		d.render(w, r, p.status, view.Outcome(false, p.text, p.hint))
		return
	}
	page := d.frame(who)
	page.Title = p.title
	d.render(w, r, p.status, view.Notice(page, view.NoticeText{Title: p.title, Text: p.text, Hint: p.hint, Link: p.link, LinkText: p.linkText}))
}
