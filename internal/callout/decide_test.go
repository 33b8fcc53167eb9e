package callout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/wire"
)

var key = []byte("0123456789abcdef0123456789abcdef")

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func token(id string, roles ...string) request {
	return request{Claims: &verify.Claims{Subject: "4711", ID: id, Roles: roles, Expiry: noon.Add(time.Hour)}}
}

func TestDecide(t *testing.T) {
	spent := map[string]int{}
	p := policy{
		fleetKey: key,
		grants:   DefaultGrants(),
		prefix:   "device-",
		denied:   func(id string) bool { return id == "revoked" },
		held:     func(id string) bool { return id == "flooding" },
		allow: func(id string) bool {
			spent[id]++
			return id != "flapping"
		},
	}
	password := func(user, password string) request { return request{User: user, Password: password} }
	expired := token("device-pi-1", role.Device)
	expired.Claims.Expiry = noon
	for name, tt := range map[string]struct {
		r      request
		want   error
		reason string
	}{
		"right password":        {password("pi-1", PSK(key, "pi-1")), nil, ""},
		"another's password":    {password("pi-1", PSK(key, "pi-2")), errWrongPassword, "password"},
		"another key":           {password("pi-1", PSK([]byte("x"), "pi-1")), errWrongPassword, "password"},
		"upper case password":   {password("pi-1", strings.ToUpper(PSK(key, "pi-1"))), errWrongPassword, "password"},
		"empty password":        {password("pi-1", ""), errWrongPassword, "password"},
		"nothing":               {request{}, errNoCredentials, "no-credentials"},
		"password without user": {password("", PSK(key, "")), errBadID, "device-id"},
		"wildcard":              {password(">", PSK(key, ">")), errBadID, "device-id"},
		"two tokens":            {password("a.b", PSK(key, "a.b")), errBadID, "device-id"},
		"revoked":               {password("revoked", PSK(key, "revoked")), errDenied, "revoked"},
		"has to wait":           {password("flooding", PSK(key, "flooding")), errHeld, "flood"},
		"too often":             {password("flapping", PSK(key, "flapping")), errTooOften, "rate"},

		"device":                 {token("device-pi-1", role.Device), nil, ""},
		"device, unknown role":   {token("device-pi-1", "zzz", role.Device), nil, ""},
		"no role":                {token("device-pi-1"), errNoRole, "role"},
		"unknown role":           {token("device-pi-1", "fleet-Device"), errNoRole, "role"},
		"expired for the server": {expired, verify.ErrExpired, "token-expired"},
		"id without prefix":      {token("pi-1", role.Device), errBadID, "device-id"},
		"prefix alone":           {token("device-", role.Device), errBadID, "device-id"},
		"no id":                  {token("", role.Device), errBadID, "device-id"},
		"wildcard id":            {token("device->", role.Device), errBadID, "device-id"},
		"id of two tokens":       {token("device-a.b", role.Device), errBadID, "device-id"},
		"look-alike id":          {token("device-pі-1", role.Device), errBadID, "device-id"},
		"revoked by token":       {token("device-revoked", role.Device), errDenied, "revoked"},
		"too often by token":     {token("device-flapping", role.Device), errTooOften, "rate"},
		"bad signature":          {request{Unverified: verify.ErrSignature}, errBadToken, "token-signature"},
		"issuer down":            {request{Unverified: verify.ErrUnavailable}, errBadToken, "issuer-unavailable"},
		"no JWT":                 {request{Unverified: verify.ErrMalformed}, errBadToken, "token-malformed"},
		"no tokens":              {request{Unverified: errNoTokens}, errNoTokens, "token-off"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := p.decide(tt.r, noon)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			want := decision{}
			if tt.want == nil {
				want = decision{Name: "pi-1", Device: true, Account: wire.AccountDevices, Permissions: wire.DevicePermissions("pi-1")}
				if tt.r.Claims != nil {
					want.Role, want.Expires = role.Device, noon.Add(time.Hour)
				}
			} else if reason := reasonOf(err); reason != tt.reason {
				t.Errorf("reason %q, want %q", reason, tt.reason)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	// Only who proved an id spends its connects: nobody locks out another.
	if want := map[string]int{"pi-1": 3, "flapping": 2}; !reflect.DeepEqual(spent, want) {
		t.Errorf("connects spent: %v, want %v", spent, want)
	}
	p.password = func(device string) bool { return device != "pi-1" }
	if _, err := p.decide(password("pi-1", PSK(key, "pi-1")), noon); !errors.Is(err, errNoPasswords) {
		t.Errorf("a device that may have none used a password: %v", err)
	}
	if _, err := p.decide(password("pi-2", PSK(key, "pi-2")), noon); err != nil {
		t.Errorf("a device that may was refused: %v", err)
	}
	p.fleetKey = nil
	if _, err := p.decide(password("pi-1", PSK(nil, "pi-1")), noon); !errors.Is(err, errNoPasswords) {
		t.Errorf("a password while none are taken: %v", err)
	}
	p.grants = []Grant{{Role: "r", Part: accounts.RoleCallout}}
	if _, err := p.decide(token("x", "r"), noon); !errors.Is(err, errNoRole) {
		t.Errorf("a table that grants what no token gives: %v", err)
	}
}

// TestWhoseToken: the issuer's user decides where it is registered, whatever
// the token says beside; a name is no way to another device.
func TestWhoseToken(t *testing.T) {
	users := map[string]string{"pi-1": "4711", "pi-2": "4712", "revoked": "4713"}
	p := policy{
		grants: DefaultGrants(), prefix: "device-",
		device: func(subject string) (string, bool) {
			for device, user := range users {
				if user == subject {
					return device, true
				}
			}
			return "", false
		},
		subject: func(device string) string { return users[device] },
		denied:  func(device string) bool { return device == "revoked" },
	}
	for _, tt := range []struct {
		what, subject, name string
		roles               []string
		device              string
		refused             error
	}{
		{"a Zitadel's token, without a name", "4711", "", []string{role.Device}, "pi-1", nil},
		{"with its name", "4711", "device-pi-1", []string{role.Device}, "pi-1", nil},
		{"with its organisation's domain behind the name", "4711", "device-pi-1@fleet.example.com", []string{role.Device}, "pi-1", nil},
		{"renamed to another device", "4711", "device-pi-2", []string{role.Device}, "pi-1", nil},
		{"renamed to one that is not enrolled", "4711", "device-pi-9", []string{role.Device}, "pi-1", nil},
		{"another user with its name", "666", "device-pi-1", []string{role.Device}, "", errBadID},
		{"a user of nobody, without a name", "666", "", []string{role.Device}, "", errBadID},
		{"a device whose user is not registered", "666", "device-pi-3", []string{role.Device}, "pi-3", nil},
		{"no role", "4711", "", nil, "", errNoRole},
		{"revoked", "4713", "", []string{role.Device}, "", errDenied},
	} {
		r := token(tt.name, tt.roles...)
		r.Claims.Subject = tt.subject
		got, err := p.decide(r, noon)
		if !errors.Is(err, tt.refused) || got.Name != tt.device || err == nil && !reflect.DeepEqual(got.Permissions, wire.DevicePermissions(tt.device)) {
			t.Errorf("%s: %+v, %v", tt.what, got, err)
		}
	}
}

// The strongest role that the issuer granted decides, alone.
func TestStrongestRole(t *testing.T) {
	p := policy{grants: DefaultGrants(), prefix: "device-"}
	for _, tt := range []struct {
		roles []string
		part  string // empty for a device
	}{
		{[]string{role.Device}, ""},
		{[]string{role.Viewer}, accounts.RoleViewer},
		{[]string{role.Operator}, accounts.RoleViewer},
		{[]string{role.ServiceAPI}, accounts.RoleAPI},
		{[]string{role.ServiceOperator}, accounts.RoleOperator},
		{[]string{role.Admin}, accounts.RoleAdmin},
		{[]string{role.Device, role.Viewer}, accounts.RoleViewer},
		{[]string{role.Device, role.ServiceOperator}, accounts.RoleOperator},
		{[]string{role.ServiceAPI, role.ServiceOperator, role.Device}, accounts.RoleOperator},
		{[]string{role.Viewer, role.Admin}, accounts.RoleAdmin},
	} {
		got, err := p.decide(token("device-pi-1", tt.roles...), noon)
		if err != nil {
			t.Errorf("%v: %v", tt.roles, err)
			continue
		}
		want := decision{Name: "pi-1", Device: true, Role: role.Device, Account: wire.AccountDevices, Permissions: wire.DevicePermissions("pi-1"), Expires: noon.Add(time.Hour)}
		if tt.part != "" {
			part, _ := accounts.ByToken(tt.part)
			want = decision{Name: tt.part + "/4711", Role: got.Role, Account: part.Account, Permissions: part.Permissions(), Expires: noon.Add(time.Hour)}
			for _, subject := range slices.Concat(got.Permissions.Publish, got.Permissions.Subscribe) {
				if strings.Contains(subject, "pi-1") {
					t.Errorf("%v: a device's subject %s among a part's", tt.roles, subject)
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, want %+v", tt.roles, got, want)
		}
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
