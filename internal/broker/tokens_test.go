package broker_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/wire"
)

// TestForgedTokens presents what a thief could make of a device's token. Those
// signed by the issuer's own key are wrong in one thing alone.
func TestForgedTokens(t *testing.T) {
	f := newFleet(t)
	good := func() map[string]any { return f.issuer.Claims("device-"+victimID, role.Device) }
	if err := f.connects(f.issuer.Sign(good())); err != nil {
		t.Fatalf("the token that the others are made of is refused: %v", err)
	}
	with := func(name string, value any) string {
		c := good()
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
		return f.issuer.Sign(c)
	}
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	other := issuertest.Start(t)
	genuine := strings.Split(f.token("evil"), ".")
	forged := encode(good())
	public, keyID := f.issuer.PublicKey()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	hs256 := func(secret []byte) string {
		signed := encode(map[string]string{"alg": "HS256", "typ": "JWT", "kid": keyID}) + "." + forged
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	claimsOfOurs := good()
	for name, token := range map[string]string{
		"another issuer's":                other.Token("device-"+victimID, role.Device),
		"another issuer's, with our name": other.Sign(claimsOfOurs),
		"wrong audience":                  with("aud", []string{"4712"}),
		"the issuer as audience":          with("aud", f.issuer.URL),
		"no audience":                     with("aud", nil),
		"wrong iss":                       with("iss", other.URL),
		"no iss":                          with("iss", nil),
		"expired":                         with("exp", at(-time.Minute)),
		"expired a moment ago":            with("exp", at(-time.Second)), // within the leeway for clocks
		"no expiry":                       with("exp", nil),
		"expiry that is no number":        with("exp", "never"),
		"not yet valid":                   with("nbf", at(10*time.Minute)),
		"issued in the future":            with("iat", at(10*time.Minute)),
		"no roles":                        f.issuer.Sign(f.issuer.Claims("device-" + victimID)),
		"unknown role":                    f.issuer.Sign(f.issuer.Claims("device-"+victimID, "device")),
		"role in upper case":              f.issuer.Sign(f.issuer.Claims("device-"+victimID, strings.ToUpper(role.Device))),
		"no subject":                      with("sub", nil),
		"no name":                         with(issuer.ClaimUsername, nil),
		"name that is a list":             with(issuer.ClaimUsername, []string{"device-" + victimID}),
		"alg none":                        encode(map[string]string{"alg": "none", "kid": keyID}) + "." + forged + ".",
		"alg None":                        encode(map[string]string{"alg": "None", "kid": keyID}) + "." + forged + "." + genuine[2],
		"HS256 with the public key, PEM":  hs256(asPEM),
		"HS256 with the public key, DER":  hs256(der),
		"HS256 with the modulus":          hs256(public.N.Bytes()),
		"another's claims, own signature": genuine[0] + "." + forged + "." + genuine[2],
		"no signature":                    genuine[0] + "." + genuine[1] + ".",
		"unknown key id":                  encode(map[string]string{"alg": "RS256", "kid": "nobody"}) + "." + genuine[1] + "." + genuine[2],
		"key in the header": encode(map[string]any{"alg": "RS256", "jwk": map[string]string{"kty": "RSA", "e": "AQAB",
			"n": base64.RawURLEncoding.EncodeToString(public.N.Bytes())}}) + "." + forged + "." + genuine[2],
		"an encrypted one": strings.Join(append(genuine, "x", "y"), "."),
		"no token":         "x",
		"an ID's PSK":      victimID,
		"megabytes":        strings.Repeat("A", 900),
	} {
		t.Run(name, func(t *testing.T) {
			if err := f.connects(token); err == nil {
				t.Error("let in")
			}
		})
	}
}

// TestHostileNames are genuine tokens of machine users with names that would
// widen the permissions, had an administrator been talked into making them.
func TestHostileNames(t *testing.T) {
	f := newFleet(t)
	for _, name := range []string{
		"device-*", "device->", "device-a.b", "device-pi-1.>", "device-", "device- ", "device-PI-1", "device-pi_1", "device-pi-1\n", "device-pi-1\x00",
		"device-pі-1", "device-pi‑1", "device-ｐi-1", "device-" + strings.Repeat("a", 64), "pi-1", "Device-pi-1", " device-pi-1", "device-{{name()}}",
		"operator", "device-$SYS",
	} {
		if err := f.connects(f.issuer.Token(name, role.Device)); err == nil {
			t.Errorf("%q was let in", name)
		}
	}
	// A machine user that is no device at all, with the name of one.
	if err := f.connects(f.issuer.Token("device-pi-2", "somebody")); err == nil {
		t.Error("a token without the role was let in")
	}
}

// TestTwoRoles: the stronger one decides, when the issuer granted it, and the
// device's subjects are not added to it; a claim of the token's owner counts
// for nothing.
func TestTwoRoles(t *testing.T) {
	f := newFleet(t)
	both := must(nats.Connect(f.url(), nats.Token(f.issuer.Token("device-"+victimID, role.Device, role.Viewer)), nats.RootCAs(f.ca.Path()),
		nats.CustomInboxPrefix("_INBOX_viewer"), nats.Timeout(patience)))(t)
	defer both.Close()
	desired := wire.BucketDesired.DirectGetSubject(wire.ManifestKey("pi-9"))
	if _, err := f.store.PutManifest(timeout(t), "pi-9", []byte("seen"), kv.Any); err != nil {
		t.Fatal(err)
	}
	if msg, err := both.Request(desired, nil, patience); err != nil || string(msg.Data) != "seen" {
		t.Errorf("a viewer does not read: %v", err)
	}
	if _, err := both.Request(wire.BucketState.Subject(wire.StateKey(victimID)), []byte("x"), time.Second); err == nil {
		t.Error("a viewer that is a device too writes the device's state")
	}
	claims := f.issuer.Claims("device-pi-1", role.Device)
	claims["roles"], claims["scope"], claims["fleet-admin"] = []string{role.Admin}, role.Admin, true
	token := nats.Token(f.issuer.Sign(claims))
	d := must(f.dial("pi-1", token))(t)
	if _, err := d.nc.Request(desired, nil, time.Second); err == nil {
		t.Error("a device that calls itself an administrator reads another's desired state")
	}
	d.nc.Close()
	d = must(f.dial("pi-1", token))(t)
	defer d.nc.Close()
	checkDeviceWorks(t, f, d)
}

// TestViewersReachNobody: who reads can aim the answer at any subject, since
// nobody checks it. In an account of its own nothing is there to be hit.
func TestViewersReachNobody(t *testing.T) {
	f := newFleet(t)
	j := newJudge(t, f)
	token := f.issuer.Token("curious", role.Viewer)
	before, strays := j.snapshot(t), j.strays.Load()
	for _, reply := range []string{
		"$KV.desired-state." + victimID, "$KV.device-state.state." + victimID, "desired." + victimID, "device-commands." + victimID + ".ping",
		"device-replies." + victimID + ".x", "_INBOX." + victimID + ".x", "_INBOX_operator.x", "_INBOX_api.x", "$JS.API.STREAM.PURGE.KV_device-state",
	} {
		r := f.rawDial(t)
		r.send(connectLine(map[string]any{"auth_token": token}) + "PING\r\n")
		if !r.sync(1) {
			t.Fatalf("the viewer could not connect: %s", r.bytes())
		}
		for _, subject := range []string{
			wire.BucketDesired.DirectGetSubject(victimID), wire.BucketState.DirectGetSubject(wire.StateKey(victimID)), wire.BucketInfo.DirectGetSubject("none"),
		} {
			r.pub(subject, reply, "")
			r.pub(subject, reply, `{"multi_last":[">"]}`)
		}
		for _, subject := range []string{reply, "$JS.API.CONSUMER.CREATE.KV_desired-state", "$JS.API.STREAM.INFO.KV_desired-state"} {
			r.pub(subject, "", "forged")
			r.sub(subject)
		}
		r.settle()
		j.drain(t)
		for _, harm := range j.verdict(t, nil, before, strays) {
			t.Errorf("reply to %s: %s", reply, harm)
		}
		_ = r.conn.Close()
	}
}

// TestConnectionEndsWithItsToken: the server itself ends it.
func TestConnectionEndsWithItsToken(t *testing.T) {
	f := newFleet(t)
	claims := f.issuer.Claims("device-pi-1", role.Device)
	ends := time.Now().Add(6 * time.Second) // it has to get in before
	claims["exp"] = ends.Unix()
	d := must(f.dial("pi-1", nats.Token(f.issuer.Sign(claims))))(t)
	select {
	case <-d.closed:
		if early := time.Until(ends); early > 1500*time.Millisecond {
			t.Errorf("ended %s before its token", early)
		}
	case <-timeout(t).Done():
		t.Error("still there")
	}
}

// connects says why a token is not let in.
func (f *fleet) connects(token string) error {
	d, err := f.dial(victimID, nats.Token(token))
	if err == nil {
		d.nc.Close()
	}
	return err
}

func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}
