package issuer

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

//go:embed pages
var pageFiles embed.FS

var pageTemplates = template.Must(template.ParseFS(pageFiles, "pages/*.html"))

const (
	loginPath    = "/login"
	devicePath   = "/device"
	callbackPath = "/authorize/callback"

	// __Host-: set by this host, over TLS, for no other.
	formCookie  = "__Host-fleet-form"
	loginCookie = "__Host-fleet-login"
)

// pages is what people see: signing in, and letting a program in by its code.
// There is no session: each approval asks for the password, so there is
// nothing that another page could ride on.
type pages struct {
	storage *storage
	guard   *guard
	formKey []byte
	issuer  string
}

type view struct {
	Title    string
	Action   string
	Token    string // against forged forms
	ID       string // of a sign-in by code
	UserCode string
	Username string
	Client   string
	Problem  string
	Message  string
}

func (p *pages) register(mux *http.ServeMux) {
	mux.HandleFunc("GET "+loginPath, p.showLogin)
	mux.HandleFunc("POST "+loginPath, p.login)
	mux.HandleFunc("GET "+devicePath, p.showDevice)
	mux.HandleFunc("POST "+devicePath, p.decideDevice)
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, pageFiles, "pages/style.css")
	})
}

func (p *pages) showLogin(w http.ResponseWriter, r *http.Request) {
	request, err := p.storage.findAuthRequest(r.Context(), r.FormValue("id"))
	if err != nil || request.Done() {
		p.end(w, http.StatusBadRequest, "This sign-in is over or has expired. Begin again.")
		return
	}
	p.loginForm(w, r, http.StatusOK, request, view{})
}

func (p *pages) loginForm(w http.ResponseWriter, r *http.Request, status int, request *authRequest, v view) {
	v.Title, v.Action, v.ID = "Sign in", loginPath, request.id
	v.Client = p.clientName(r, request.Client)
	p.form(w, r, status, v, origin(request.RedirectURI))
}

func (p *pages) login(w http.ResponseWriter, r *http.Request) {
	if !p.genuine(w, r) {
		return
	}
	request, err := p.storage.findAuthRequest(r.Context(), r.PostFormValue("id"))
	if err != nil || request.Done() {
		p.end(w, http.StatusBadRequest, "This sign-in is over or has expired. Begin again.")
		return
	}
	user, ok := p.signIn(w, r, func(status int, problem string) {
		p.loginForm(w, r, status, request, view{Problem: problem, Username: r.PostFormValue("username")})
	})
	if !ok {
		return
	}
	secret := store.Secret()
	if err := p.storage.store.SignedIn(r.Context(), request.id, user.ID, secret); err != nil {
		p.end(w, http.StatusBadRequest, "This sign-in is over or has expired. Begin again.")
		return
	}
	setCookie(w, loginCookie, secret, http.SameSiteLaxMode)
	http.Redirect(w, r, callbackPath+"?id="+url.QueryEscape(request.id), http.StatusSeeOther)
}

// bindCallback lets only the browser that signed in fetch the code. Else
// whoever sends a person the link of a sign-in that they began themselves
// would have the code, with their own verifier, as soon as the person signs in.
func (p *pages) bindCallback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == callbackPath {
			request, err := p.storage.findAuthRequest(r.Context(), r.FormValue("id"))
			cookie, cookieErr := r.Cookie(loginCookie)
			if err != nil || cookieErr != nil || subtle.ConstantTimeCompare([]byte(store.Hash(cookie.Value)), []byte(request.browser)) != 1 {
				p.end(w, http.StatusForbidden, "This sign-in belongs to another browser, or has expired. Begin again.")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (p *pages) showDevice(w http.ResponseWriter, r *http.Request) {
	p.deviceForm(w, r, http.StatusOK, view{UserCode: tidyCode(r.FormValue("user_code"))})
}

func (p *pages) deviceForm(w http.ResponseWriter, r *http.Request, status int, v view) {
	v.Title, v.Action = "Let a program in", devicePath
	p.form(w, r, status, v, "")
}

func (p *pages) decideDevice(w http.ResponseWriter, r *http.Request) {
	if !p.genuine(w, r) {
		return
	}
	code, action := tidyCode(r.PostFormValue("user_code")), r.PostFormValue("action")
	again := func(status int, problem string) {
		p.deviceForm(w, r, status, view{Problem: problem, UserCode: code, Username: r.PostFormValue("username")})
	}
	if action != "approve" && action != "deny" {
		again(http.StatusBadRequest, "Choose whether to approve or to deny.")
		return
	}
	user, ok := p.signIn(w, r, again)
	if !ok {
		return
	}
	guess := counted{"code " + source(r), limitPair}
	if !p.guard.limits.take(guess) {
		again(http.StatusTooManyRequests, "Too many attempts. Wait half a minute.")
		return
	}
	switch err := p.storage.store.DecideDevice(r.Context(), code, user.ID, action == "approve"); {
	case errors.Is(err, store.ErrNotFound):
		again(http.StatusNotFound, "There is no such code, or it has been used or has expired.")
		return
	case err != nil:
		p.storage.log.Error("device code not decided", "op", "approve device code", "error", err)
		again(http.StatusInternalServerError, "The server could not do this. Try again.")
		return
	}
	p.guard.limits.giveBack(guess)
	p.storage.log.Info("device code decided", "op", "approve device code", "user", user.Username, "action", action, "from", source(r))
	if action == "deny" {
		p.end(w, http.StatusOK, "Denied. The program has not been let in.")
		return
	}
	p.end(w, http.StatusOK, "Approved. You can close this page and go back to the program.")
}

// signIn checks name and password of a form; otherwise it has answered.
func (p *pages) signIn(w http.ResponseWriter, r *http.Request, again func(status int, problem string)) (store.User, bool) {
	user, err := p.guard.check(r.Context(), r, r.PostFormValue("username"), r.PostFormValue("password"))
	switch {
	case err == nil:
		return user, true
	case errors.Is(err, errWrong):
		again(http.StatusUnauthorized, "User name or password is wrong.")
	case errors.Is(err, errTooMany):
		w.Header().Set("Retry-After", "30")
		again(http.StatusTooManyRequests, "Too many attempts. Wait half a minute.")
	default:
		p.storage.log.Error("password not checked", "op", "sign in", "error", err)
		again(http.StatusInternalServerError, "The server could not do this. Try again.")
	}
	return user, false
}

func (p *pages) clientName(r *http.Request, id string) string {
	app, err := p.storage.store.Client(r.Context(), id)
	if err != nil {
		return ""
	}
	return app.Name
}

// form shows a page with a form, and gives the browser what makes it genuine.
func (p *pages) form(w http.ResponseWriter, r *http.Request, status int, v view, target string) {
	value := ""
	if cookie, err := r.Cookie(formCookie); err == nil {
		value = cookie.Value
	}
	if len(value) != 43 {
		value = store.Secret()
		setCookie(w, formCookie, value, http.SameSiteStrictMode)
	}
	v.Token = p.formToken(value)
	p.render(w, status, "form.html", v, target)
}

// formToken is "<random>.<MAC of cookie and random>": fresh each time, so that
// compressed answers do not betray it.
func (p *pages) formToken(cookie string) string {
	salt := rand.Text()
	return salt + "." + p.mac(cookie, salt)
}

func (p *pages) mac(cookie, salt string) string {
	m := hmac.New(sha256.New, p.formKey)
	m.Write([]byte(cookie + "\x00" + salt))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// genuine refuses a form that did not come from our own page; it then has
// answered. Browsers say where a form is from; the token is for those that do not.
func (p *pages) genuine(w http.ResponseWriter, r *http.Request) bool {
	salt, mac, _ := strings.Cut(r.PostFormValue("token"), ".")
	cookie, err := r.Cookie(formCookie)
	if err == nil && cookie.Value != "" && http.NewCrossOriginProtection().Check(r) == nil &&
		subtle.ConstantTimeCompare([]byte(mac), []byte(p.mac(cookie.Value, salt))) == 1 {
		return true
	}
	p.end(w, http.StatusForbidden, "This form did not come from this server, or the browser refuses its cookies. Go back, reload and try again.")
	return false
}

func (p *pages) end(w http.ResponseWriter, status int, message string) {
	p.render(w, status, "end.html", view{Title: "Fleet", Message: message}, "")
}

// render writes a page. Chrome applies form-action to where a form's answer
// redirects, so the client's own origin has to be in it.
func (p *pages) render(w http.ResponseWriter, status int, name string, v view, target string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", strings.TrimSpace("default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self' "+target))
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := pageTemplates.ExecuteTemplate(w, name, v); err != nil {
		p.storage.log.Debug("page not written", "op", "serve page", "error", err)
	}
}

func setCookie(w http.ResponseWriter, name, value string, site http.SameSite) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: site, MaxAge: int(signInLifetime.Seconds())})
}

// origin is what a CSP source can say of a redirect URI.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || strings.ContainsAny(u.Scheme+u.Host, "; ,'\"") {
		return ""
	}
	if u.Host == "" {
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}

// tidyCode takes a code as people type it.
func tidyCode(code string) string {
	code = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, strings.ToUpper(code))
	if len(code) != 8 {
		return ""
	}
	return code[:4] + "-" + code[4:]
}
