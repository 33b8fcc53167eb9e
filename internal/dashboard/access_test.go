package dashboard

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
)

func played(t testing.TB) *fixture {
	t.Helper()
	var f *fixture
	f = start(t, "127.0.0.1:0", playedAPI(func() *fleet.Snapshot { return f.store.Snapshot() }))
	play(f.store, 300, 20)
	return f
}

func TestWithoutSession(t *testing.T) {
	f := played(t)
	b := f.browser()
	if a := f.get(b, "/devices?selector=site%3Dlyon", nil); a.status != http.StatusSeeOther || a.header.Get("Location") != "/auth/signin?to=%2Fdevices%3Fselector%3Dsite%253Dlyon" {
		t.Errorf("a page: %d %s", a.status, a.header.Get("Location"))
	}
	if a := f.get(b, "/devices", map[string]string{"HX-Request": "true", "HX-Current-URL": f.url + "/devices/pi-1?x=1"}); a.status != http.StatusUnauthorized || a.header.Get("HX-Redirect") != "/auth/signin?to=%2Fdevices%2Fpi-1%3Fx%3D1" {
		t.Errorf("a request of htmx: %d %s", a.status, a.header.Get("HX-Redirect"))
	}
	if a := f.get(b, "/live/devices", map[string]string{"Accept": "text/event-stream"}); a.status != http.StatusUnauthorized {
		t.Errorf("an event stream: %d", a.status)
	}
	if a := f.post(b, "/devices/pi-00007/ping", nil, nil); a.status != http.StatusUnauthorized {
		t.Errorf("an action: %d", a.status)
	}
	for _, path := range []string{"/devices.json", "/map.json", "/audit.csv", "/", "/no/such/page"} {
		if a := f.get(b, path, nil); a.status != http.StatusSeeOther {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	if a := f.get(b, f.assets.Script, nil); a.status != http.StatusOK {
		t.Errorf("the script: %d", a.status)
	}
}

func TestSignInAndOut(t *testing.T) {
	f := played(t)
	b := f.signedIn("otto")
	page := f.get(b, "/devices", nil)
	if page.status != http.StatusOK || !strings.Contains(page.body, "otto") || !strings.Contains(page.body, "fleet-operator") {
		t.Fatalf("after sign-in: %d", page.status)
	}
	csp := page.header.Get("Content-Security-Policy")
	if strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("content security policy %q", csp)
	}
	at := must(url.Parse(f.url))(t)
	stolen := b.Jar.Cookies(at)
	if a := f.post(b, "/auth/signout", url.Values{"token": {"x.y"}}, nil); a.status != http.StatusForbidden {
		t.Errorf("signed out by a forged form: %d", a.status)
	}
	if a := f.post(b, "/auth/signout", url.Values{"token": {f.formToken(b)}}, nil); a.status != http.StatusSeeOther || a.header.Get("Location") != SignedOutPath {
		t.Fatalf("sign-out: %d %s", a.status, a.header.Get("Location"))
	}
	if a := f.get(b, "/devices", nil); a.status != http.StatusSeeOther {
		t.Errorf("after sign-out: %d", a.status)
	}
	// A copy of the cookie is worth nothing either.
	b.Jar.SetCookies(at, stolen)
	if a := f.get(b, "/devices", nil); a.status != http.StatusSeeOther {
		t.Errorf("with the old cookie after sign-out: %d", a.status)
	}
}

func TestSignInIsBoundToItsBrowser(t *testing.T) {
	f := played(t)
	b := f.browser()
	for name, path := range map[string]string{
		"without a beginning": "/auth/callback?code=x&state=y",
		"with an error":       "/auth/callback?error=access_denied&state=y",
	} {
		if a := f.get(b, path, nil); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, a.status)
		}
	}
	f.get(b, "/auth/signin", nil)
	if a := f.get(b, "/auth/callback?code=x&state=forged", nil); a.status != http.StatusBadRequest {
		t.Errorf("with a forged state: %d", a.status)
	}
}

// TestSessionIsRenewed: the access token is replaced before it ends, by one
// request for all, and the session ends when the issuer says so.
func TestSessionIsRenewed(t *testing.T) {
	f := played(t)
	b := f.signedIn("vera")
	before := f.sessionCookie(b).Value
	f.clock.ahead = 14*time.Minute + 45*time.Second
	results := make(chan int, 8)
	for range 8 {
		go func() {
			resp, err := b.Get(f.url + "/devices")
			if err != nil {
				results <- 0
				return
			}
			_ = resp.Body.Close()
			results <- resp.StatusCode
		}()
	}
	for range 8 {
		if status := <-results; status != http.StatusOK {
			t.Errorf("while the session is renewed: %d", status)
		}
	}
	if f.sessionCookie(b).Value == before {
		t.Error("the cookie was not replaced")
	}
	if err := f.db.SetActive(t.Context(), must(f.db.UserByName(t.Context(), "vera"))(t).ID, false); err != nil {
		t.Fatal(err)
	}
	f.clock.ahead = time.Hour
	if a := f.get(b, "/devices", nil); a.status != http.StatusSeeOther {
		t.Errorf("somebody who was locked out: %d", a.status)
	}
}

func TestSessionHasAnEnd(t *testing.T) {
	f := played(t)
	b := f.signedIn("vera")
	f.clock.ahead = 13 * time.Hour
	if a := f.get(b, "/devices", nil); a.status != http.StatusSeeOther {
		t.Errorf("after 13 hours: %d", a.status)
	}
}

func TestForgedCookies(t *testing.T) {
	f := played(t)
	b := f.signedIn("ada")
	at := must(url.Parse(f.url))(t)
	cookie := f.sessionCookie(b)
	for _, value := range []string{"", "x", cookie.Value[:20], cookie.Value[:len(cookie.Value)-4] + "AAAA", strings.Repeat("A", 4000)} {
		b.Jar.SetCookies(at, []*http.Cookie{{Name: cookie.Name, Value: value, Path: "/", Secure: true}})
		if a := f.get(b, "/devices", nil); a.status != http.StatusSeeOther {
			t.Errorf("cookie %.20q…: %d", value, a.status)
		}
	}
}

// TestRolesAreCheckedAtTheServer tries everything that takes a role as
// somebody without it.
func TestRolesAreCheckedAtTheServer(t *testing.T) {
	f := played(t)
	vera, otto, nobody := f.signedIn("vera"), f.signedIn("otto"), f.signedIn("nobody")
	token := url.Values{"token": {f.formToken(vera)}}
	for _, path := range []string{"/devices/pi-00007/ping", "/devices/pi-00007/restart", "/devices/pi-00007/stop", "/devices/pi-00007/start", "/deployments/default/signage/pause", "/deployments/default/signage/resume",
		"/deployments/default/signage/retry", "/deployments/default/signage/undo", "/deployments/default/signage/restart"} {
		if a := f.post(vera, path, token, nil); a.status != http.StatusForbidden {
			t.Errorf("POST %s as a viewer: %d", path, a.status)
		}
		if a := f.post(otto, path, url.Values{"token": {"AAAA.BBBB"}}, nil); a.status != http.StatusForbidden {
			t.Errorf("POST %s with a forged token: %d", path, a.status)
		}
		if a := f.post(otto, path, token, nil); a.status != http.StatusForbidden {
			t.Errorf("POST %s with somebody else's token: %d", path, a.status)
		}
		if a := f.post(otto, path, url.Values{"token": {f.formToken(otto)}}, map[string]string{"Sec-Fetch-Site": "cross-site"}); a.status != http.StatusForbidden {
			t.Errorf("POST %s from another site: %d", path, a.status)
		}
	}
	for _, path := range []string{"/audit", "/audit.json", "/audit.csv"} {
		if a := f.get(otto, path, nil); a.status != http.StatusForbidden {
			t.Errorf("GET %s as an operator: %d", path, a.status)
		}
	}
	for _, path := range []string{"/live/devices/pi-00007/logs?deployment=signage&service=signage", "/devices/pi-00007/logs.txt?deployment=signage"} {
		if a := f.get(vera, path, nil); a.status != http.StatusForbidden {
			t.Errorf("GET %s as a viewer: %d", path, a.status)
		}
	}
	for _, path := range []string{"/", "/devices", "/devices.json", "/map.json"} {
		if a := f.get(nobody, path, nil); a.status != http.StatusForbidden || strings.Contains(a.body, "pi-00007") {
			t.Errorf("GET %s without a role: %d", path, a.status)
		}
	}
	if a := f.post(otto, "/devices/pi-00007/ping", url.Values{"token": {f.formToken(otto)}}, map[string]string{"HX-Request": "true"}); a.status != http.StatusOK || !strings.Contains(a.body, "answered in 38 ms") {
		t.Errorf("ping as an operator: %d %s", a.status, a.body)
	}
}
