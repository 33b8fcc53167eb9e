package dashboard

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/a-h/templ"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/dashboard/view"
	"github.com/nationtech/fleetctl/internal/identity/role"
)

// screen is what a request for a page opens: the page, and what of it changes.
type screen struct {
	title  string
	active string // path of its entry in the navigation
	status int    // 0 for 200
	body   func(view.Page) templ.Component
	live   *liveView // nil for a page that stays as it is
}

// opener opens a screen on a snapshot.
type opener func(r *http.Request, who *session.Session, snap *fleet.Snapshot) (screen, error)

// page serves a screen as a page.
func (d *Dashboard) page(wants string, open opener) http.Handler {
	return d.needs(wants, func(w http.ResponseWriter, r *http.Request, who *session.Session) error {
		snap, err := d.snapshot()
		if err != nil {
			return err
		}
		s, err := open(r, who, snap)
		if err != nil {
			return err
		}
		p := d.frame(who)
		p.Title, p.Active = s.title, s.active
		if s.live != nil {
			p.Live = liveURL(r.URL, snap.Version)
		}
		d.render(w, r, max(s.status, http.StatusOK), s.body(p))
		return nil
	})
}

// snapshot is the fleet; an error while it is not known yet.
func (d *Dashboard) snapshot() (*fleet.Snapshot, error) {
	select {
	case <-d.synced:
		return d.store.Snapshot(), nil
	default:
		return nil, &problem{status: http.StatusServiceUnavailable, title: "Starting",
			text: "The dashboard is still reading the fleet from the Kubernetes API.", hint: "Reload in a moment.", link: "/", linkText: "Reload"}
	}
}

// liveURL is the event stream of a page.
func liveURL(page *url.URL, version uint64) string {
	q := page.Query()
	q.Set("v", strconv.FormatUint(version, 10))
	return "/live" + page.EscapedPath() + "?" + q.Encode()
}

// frame is what all pages have; who is nil for somebody who is not signed in.
func (d *Dashboard) frame(who *session.Session) view.Page {
	p := view.Page{Version: d.cfg.Version, Assets: view.Assets{Script: d.assets.Script, Style: d.assets.Style, Icon: d.assets.Icon}}
	if who != nil {
		p.User = &view.User{Name: who.Name, Role: "no role", CanOperate: who.Allows(role.Operator), CanAdmin: who.Allows(role.Admin), FormToken: who.FormToken()}
		if roles := role.OfPeople(who.Roles); len(roles) > 0 {
			p.User.Role = roles[0]
		}
	}
	return p
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// render writes a whole page, or the reason why it could not be made.
func (d *Dashboard) render(w http.ResponseWriter, r *http.Request, status int, c templ.Component) {
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	buf.Reset()
	if err := c.Render(r.Context(), buf); err != nil {
		d.cfg.Log.Error("page not rendered", "op", "dashboard", "path", r.URL.Path, "error", err)
		http.Error(w, "the server failed; its log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	d.write(w, r, status, buf.Bytes())
}

// compressAbove is the size below which compression saves nothing, in bytes.
const compressAbove = 1400

var zippers = sync.Pool{New: func() any {
	z, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return z
}}

// write sends a body, compressed where that is understood.
func (d *Dashboard) write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Vary", "Accept-Encoding, HX-Request")
	if len(body) < compressAbove || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		_, _ = w.Write(body) // the client is gone, or it is not
		return
	}
	h.Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(w)
	_, _ = z.Write(body)
	_ = z.Close()
}
