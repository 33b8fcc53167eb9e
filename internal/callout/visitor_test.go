package callout

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/wire"
)

// A visitor's token is of our key, for a while, and for reading alone.
func TestVisitor(t *testing.T) {
	ours, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	c := &Callout{cfg: Config{Issuer: ours}}
	now := time.Now()
	token, err := Visitor(ours, 10*time.Minute, now)
	if err != nil {
		t.Fatal(err)
	}
	expires, ok := c.visit(token)
	if !ok {
		t.Fatal("our own token is not taken")
	}
	d, err := byVisit(expires, now)
	if err != nil || d.Account != wire.AccountViewers || d.Device {
		t.Fatalf("%+v, %v", d, err)
	}
	for _, subject := range d.Permissions.Publish {
		if !strings.HasPrefix(subject, "$JS.API.DIRECT.GET.") {
			t.Errorf("a visitor may publish on %s", subject)
		}
	}
	if _, err := byVisit(expires, now.Add(11*time.Minute)); err == nil {
		t.Error("taken after its end")
	}
	for _, lifetime := range []time.Duration{0, -time.Second, 2 * time.Hour} {
		if _, err := Visitor(ours, lifetime, now); err == nil {
			t.Errorf("made for %s", lifetime)
		}
	}

	theirs, _ := nkeys.CreateAccount()
	forged, err := Visitor(theirs, time.Minute, now)
	if err != nil {
		t.Fatal(err)
	}
	// What the callout's key signs for the servers is no way in.
	user, _ := nkeys.CreateUser()
	public, _ := user.PublicKey()
	decisionClaims := jwt.NewUserClaims(public)
	decisionClaims.Audience, decisionClaims.Expires = wire.AccountDevices, now.Add(time.Minute).Unix()
	decided, err := decisionClaims.Encode(ours)
	if err != nil {
		t.Fatal(err)
	}
	endless := jwt.NewUserClaims(public)
	endless.Audience = visitorAudience
	forever, err := endless.Encode(ours)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"of another key": forged, "a decision": decided, "without an end": forever, "cut": token[:len(token)-4], "empty": ""} {
		if _, ok := c.visit(token); ok {
			t.Errorf("a token %s is taken", name)
		}
	}
}
