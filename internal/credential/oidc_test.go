package credential_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
)

// device is a machine with a clock of its own.
type device struct {
	*credential.OIDC
	clock  issuertest.Clock
	tokens *verify.Verifier
	asked  atomic.Int32 // requests for a token
}

func newDevice(t *testing.T, i *issuertest.Issuer, keyFile string) *device {
	t.Helper()
	d := &device{}
	client := i.HTTPClient()
	client.Transport = counting{client.Transport, &d.asked}
	d.OIDC = credential.NewOIDC(credential.OIDCConfig{
		Issuer: i.URL, Project: i.ProjectID, File: keyFile, HTTPClient: client, Clock: d.clock.Now,
	})
	d.tokens = i.Verifier(t.Context())
	return d
}

type counting struct {
	http.RoundTripper
	tokens *atomic.Int32
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost {
		c.tokens.Add(1)
	}
	return c.RoundTripper.RoundTrip(r)
}

// good wants a credential that the issuer's token check takes.
func (d *device) good(t *testing.T) credential.Credential {
	t.Helper()
	c, err := d.Credential(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	claims, err := d.tokens.Verify(t.Context(), c.Token.Reveal())
	if err != nil {
		t.Fatalf("the token is refused: %v", err)
	}
	if claims.ID != "device-pi-1" || !claims.Has(role.Device) {
		t.Fatalf("the token is %q's with roles %v", claims.ID, claims.Roles)
	}
	return c
}

// TestOIDC mints at the embedded issuer, and keeps to one token until it is
// about to end.
func TestOIDC(t *testing.T) {
	i := issuertest.Start(t)
	d := newDevice(t, i, i.Machine("device-pi-1", role.Device))
	first := d.good(t)
	if early := first.Expires.Sub(first.Refresh); early < 5*time.Minute || early > 8*time.Minute {
		t.Errorf("refreshed %s before it ends", early)
	}
	d.clock.Advance(first.Refresh.Sub(d.clock.Now()) - time.Minute)
	if again := d.good(t); again.Token != first.Token {
		t.Error("a new token before it is time")
	}
	d.clock.Advance(2 * time.Minute)
	second := d.good(t)
	if second.Token == first.Token || !second.Expires.After(first.Expires) {
		t.Error("no new token when it was time")
	}
	// Once for the first; twice for the second, since for the issuer no time
	// went by: what the device signed was of the future, until it saw the Date.
	if n := d.asked.Load(); n != 3 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// TestOIDCClockIsWrong: the issuer takes no assertion from the future and none
// that has ended; the device learns the time from it.
func TestOIDCClockIsWrong(t *testing.T) {
	for _, off := range []time.Duration{-10 * time.Minute, 10 * time.Minute, -20 * 365 * 24 * time.Hour, 3 * time.Second} {
		t.Run(off.String(), func(t *testing.T) {
			i := issuertest.Start(t)
			d := newDevice(t, i, i.Machine("device-pi-1", role.Device))
			d.clock.Advance(off)
			first := d.good(t)
			if left := first.Expires.Sub(d.clock.Now()); left < 59*time.Minute || left > time.Hour {
				t.Errorf("by the device's own clock the token holds for %s", left)
			}
			if deviation := time.Until(d.Now()).Abs(); deviation > 6*time.Second {
				t.Errorf("the issuer's time is %s off", deviation)
			}
			// Somebody sets the clock right meanwhile.
			d.clock.Advance(-off + time.Until(first.Expires).Abs())
			_ = d.good(t)
		})
	}
}

// TestOIDCIssuerDown: a token that holds is given while the issuer is away; one
// that has ended is not; and it goes on by itself when the issuer is back.
func TestOIDCIssuerDown(t *testing.T) {
	i := issuertest.Start(t)
	d := newDevice(t, i, i.Machine("device-pi-1", role.Device))
	first := d.good(t)
	i.Stop()
	d.clock.Advance(first.Refresh.Sub(d.clock.Now()) + time.Second)
	c, err := d.Credential(t.Context())
	if err != nil || c.Token != first.Token {
		t.Fatalf("a token that holds was not given: %v", err)
	}
	d.clock.Advance(time.Hour)
	if _, err := d.Credential(t.Context()); hint.Code(err) != hint.CodeUnreachable || !strings.Contains(err.Error(), i.URL) {
		t.Fatalf("a token that has ended was given, or: %v", err)
	}
	i.Resume()
	if c := d.good(t); c.Token == first.Token {
		t.Error("the old token")
	}
}

// TestOIDCRefused: a machine that slept does not know that its token has ended.
func TestOIDCRefused(t *testing.T) {
	i := issuertest.Start(t)
	d := newDevice(t, i, i.Machine("device-pi-1", role.Device))
	first := d.good(t)
	d.Refused()
	if d.good(t).Token != first.Token {
		t.Error("a token of a moment ago was replaced: whoever is refused asks the issuer without end")
	}
	d.clock.Advance(3 * time.Minute)
	d.Refused()
	if d.good(t).Token == first.Token {
		t.Error("a refused token was given again")
	}
}

// TestOIDCRotation: the key file may be replaced at any time.
func TestOIDCRotation(t *testing.T) {
	i := issuertest.Start(t)
	file := i.Machine("device-pi-1", role.Device)
	d := newDevice(t, i, file)
	first := d.good(t)
	data, err := os.ReadFile(i.Machine("device-pi-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o400); err != nil {
		t.Fatal(err)
	}
	d.clock.Advance(first.Refresh.Sub(d.clock.Now()) + time.Second)
	if d.good(t).Token == first.Token {
		t.Error("no new token")
	}
}

func TestOIDCAtOnce(t *testing.T) {
	i := issuertest.Start(t)
	d := newDevice(t, i, i.Machine("device-pi-1", role.Device))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := d.Credential(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := d.asked.Load(); n != 1 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// TestOIDCErrors: each names what is wrong, and none shows the key.
func TestOIDCErrors(t *testing.T) {
	i := issuertest.Start(t)
	good := i.Machine("device-pi-1", role.Device)
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	file := func(mode os.FileMode, replace ...string) string {
		path := fmt.Sprintf("%s/identity.json", t.TempDir())
		if err := os.WriteFile(path, []byte(strings.NewReplacer(replace...).Replace(string(data))), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tt := range map[string]struct {
		file, issuer, want string
	}{
		"no file":          {"/nonexistent/identity.json", "", "no such file"},
		"others may read":  {file(0o644), "", "0644"},
		"no JSON":          {file(0o400, "{", ""), "", "no JSON key file"},
		"another type":     {file(0o400, "serviceaccount", "application"), "", `"application"`},
		"no PEM":           {file(0o400, "BEGIN", "BEGUN"), "", "not PEM"},
		"no key":           {file(0o400, `-----\nMII`, `-----\nAAA`), "", "no RSA private key"},
		"unknown key":      {file(0o400, `"keyId":"`, `"keyId":"1`), "", "the issuer refuses"},
		"another's issuer": {good, i.URL + "/", "calls itself"},
		"no issuer":        {good, "https://127.0.0.1:1", "127.0.0.1:1"},
		"plain http":       {good, "http://fleet.example.com", "not https"},
		"no issuer at all": {good, i.URL + "/nowhere", "HTTP 404"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.issuer == "" {
				tt.issuer = i.URL
			}
			source := credential.NewOIDC(credential.OIDCConfig{Issuer: tt.issuer, Project: i.ProjectID, File: tt.file, HTTPClient: i.HTTPClient()})
			_, err := source.Credential(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if text := err.Error() + hint.Of(err); strings.Contains(text, "PRIVATE") || strings.Contains(text, "MII") {
				t.Errorf("the error shows the key: %s", text)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Source(good).Credential(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
