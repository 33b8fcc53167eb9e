package callout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

var key = []byte("0123456789abcdef0123456789abcdef")

func TestDecide(t *testing.T) {
	spent := map[string]int{}
	p := policy{
		fleetKey: key,
		denied:   func(id string) bool { return id == "revoked" },
		allow: func(id string) bool {
			spent[id]++
			return id != "flapping"
		},
	}
	for name, tt := range map[string]struct {
		r    request
		want error
	}{
		"right password":        {request{"pi-1", PSK(key, "pi-1")}, nil},
		"another's password":    {request{"pi-1", PSK(key, "pi-2")}, errWrongPassword},
		"another key":           {request{"pi-1", PSK([]byte("x"), "pi-1")}, errWrongPassword},
		"upper case password":   {request{"pi-1", strings.ToUpper(PSK(key, "pi-1"))}, errWrongPassword},
		"empty password":        {request{"pi-1", ""}, errWrongPassword},
		"nothing":               {request{}, errNoCredentials},
		"password without user": {request{"", PSK(key, "")}, errBadID},
		"wildcard":              {request{">", PSK(key, ">")}, errBadID},
		"two tokens":            {request{"a.b", PSK(key, "a.b")}, errBadID},
		"revoked":               {request{"revoked", PSK(key, "revoked")}, errDenied},
		"too often":             {request{"flapping", PSK(key, "flapping")}, errTooOften},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := p.decide(tt.r)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			want := decision{}
			if tt.want == nil {
				want = decision{Device: "pi-1", Account: wire.AccountDevices, Permissions: wire.DevicePermissions("pi-1")}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	// Only who proved an id spends its connects: nobody locks out another.
	if want := map[string]int{"pi-1": 1, "flapping": 1}; !reflect.DeepEqual(spent, want) {
		t.Errorf("connects spent: %v, want %v", spent, want)
	}
}

// The password is plain RFC 2104, so that any tool can make it.
func TestPSK(t *testing.T) {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("pi-1"))
	if got, want := PSK(key, "pi-1"), hex.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for i := range connectBurst {
		if !l.allow("pi-1", now) {
			t.Fatalf("connect %d refused", i)
		}
	}
	if l.allow("pi-1", now) {
		t.Error("more than a burst at once")
	}
	if !l.allow("pi-2", now) {
		t.Error("another device is limited too")
	}
	if !l.allow("pi-1", now.Add(connectEvery)) {
		t.Error("not allowed again in time")
	}
	for range quietBurst {
		if l.quiet("192.0.2.1", now) {
			t.Fatal("quiet too early")
		}
	}
	if !l.quiet("192.0.2.1", now) {
		t.Error("guessing fills the log")
	}
}
