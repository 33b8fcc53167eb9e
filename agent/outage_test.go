package agent_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/wire"
)

// outage is a device with a key of its own, a clock of its own, and something
// to run, at the moment before something goes wrong.
type outage struct {
	*fleet
	device *running
	clock  *issuertest.Clock // the device's, as far as its tokens go
}

func newOutage(t *testing.T, clockOff time.Duration) outage {
	t.Helper()
	issuer := issuertest.Start(t)
	o := outage{fleet: newFleetOf(t, "127.0.0.1", issuer), clock: &issuertest.Clock{}}
	o.clock.Advance(clockOff)
	o.device = &running{engine: newEngine(), source: &source{}, ready: make(chan struct{})}
	identity := credential.NewOIDC(credential.OIDCConfig{
		Issuer: issuer.URL, Project: issuer.ProjectID, File: issuer.Machine("device-"+deviceID, role.Device),
		HTTPClient: issuer.HTTPClient(), Clock: o.clock.Now,
	})
	o.device.identity, o.device.fleetTime = identity, identity.Now
	o.deploy("web", 1, web)
	o.runAs(t.TempDir(), o.device)
	o.works("before anything happened")
	return o
}

// works wants the device to report, to run what it has to, and to answer.
func (o outage) works(when string) {
	o.t.Helper()
	o.await("runs its deployment "+when, phase("web", 1, wire.PhaseRunning))
	o.mu.Lock()
	seen := o.beats
	o.mu.Unlock()
	o.await("heartbeats "+when, func(wire.DeviceState) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.beats > seen+1
	})
}

// keepsRunning wants the engine to have been told nothing since.
func (o outage) keepsRunning() {
	o.t.Helper()
	if _, names := o.device.engine.told(); len(names) != 1 || names[0] != "web@1" {
		o.t.Errorf("the engine runs %v", names)
	}
}

// TestTokenEndsDuringAnOutage: when the network is back, the token that the
// device has is long over.
func TestTokenEndsDuringAnOutage(t *testing.T) {
	o := newOutage(t, 0)
	o.stop()
	o.clock.Advance(3 * time.Hour)
	o.keepsRunning()
	o.start()
	o.works("after the outage")
}

// TestIssuerDownForAnHour: the link outlives the issuer for as long as its token
// holds; without a token there is none; and it is back by itself.
func TestIssuerDownForAnHour(t *testing.T) {
	o := newOutage(t, 0)
	o.issuer.Stop()
	o.works("without an issuer")
	o.stop()
	o.start()
	o.works("with its old token, after the server restarted")
	o.stop()
	o.clock.Advance(time.Hour)
	o.start()
	select { // a few attempts without a token that holds
	case <-o.device.ready:
	case <-time.After(patience):
		t.Fatal("the agent is not ready")
	}
	if _, err := o.device.identity.Credential(t.Context()); err == nil {
		t.Error("there is a token, from nowhere")
	}
	o.keepsRunning()
	o.issuer.Resume()
	o.works("with the issuer again")
}

// TestIssuerRotatesItsKey: tokens of the new key are known to a callout that
// has the old one only.
func TestIssuerRotatesItsKey(t *testing.T) {
	o := newOutage(t, 0)
	before := must(o.device.identity.Credential(t.Context()))(t)
	o.issuer.Stop()
	o.issuer.Rotate()
	o.issuer.Resume()
	o.clock.Advance(57 * time.Minute)
	after := must(o.device.identity.Credential(t.Context()))(t)
	claims, err := o.issuer.Verifier(t.Context()).Verify(t.Context(), after.Token.Reveal())
	if err != nil || after.Token == before.Token {
		t.Fatalf("no new token: %v, %v", claims, err)
	}
	o.stop()
	o.start() // with the callout's old idea of the issuer's keys
	o.works("with a token of the new key")
}

// obeys wants the device to carry out what is fresh, and to refuse what has
// expired or is valid for too long, by the control plane's clock.
func (o outage) obeys(when string) {
	o.t.Helper()
	for name, tc := range map[string]struct {
		expires time.Duration // from now
		refused bool
	}{
		"fresh":    {time.Minute, false},
		"expired":  {-30 * time.Second, true},
		"too long": {wire.MaxCommandLifetime + 30*time.Second, true},
	} {
		c := wire.Command{SchemaVersion: 1, Device: deviceID, Verb: wire.VerbPing, Nonce: rand.Text(), Expires: time.Now().Add(tc.expires)}
		reply, ok := o.ask("ping", c.Nonce, must(wire.Seal(wire.KindCommand, c, o.key))(o.t), patience)
		if refused := reply.Error != nil && reply.Error.Code == wire.ReplyRefused; !ok || refused != tc.refused {
			o.t.Errorf("%s: a command that is %s: answered %v, %+v", when, name, ok, reply.Error)
		}
	}
}

// TestClockIsOff: a device without a battery for its clock has a link all the
// same, and goes by the control plane's clock: from its first start, after the
// server was restarted, and after an hour without an issuer that has another
// key when it is back.
func TestClockIsOff(t *testing.T) {
	for _, off := range []time.Duration{-10 * time.Minute, 0, 10 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			o := newOutage(t, off)
			o.obeys("at first")
			o.stop()
			o.start()
			o.works("after the server restarted")
			o.obeys("after the server restarted")

			o.issuer.Stop()
			o.issuer.Rotate()
			o.stop()
			// The device's clock alone: to it an hour went by, to the control
			// plane a moment did. So its clock is wrong by an hour more.
			o.clock.Advance(time.Hour)
			o.start()
			o.keepsRunning()
			o.issuer.Resume()
			o.works("with the issuer again, an hour later")
			o.obeys("with the issuer again, an hour later")
		})
	}
}

// TestSleep: a machine slept, and its clock with it; to it, the token holds.
func TestSleep(t *testing.T) {
	issuer := issuertest.Start(t)
	const lasts = 10 * time.Second
	issuer.Clock.Advance(-time.Hour + lasts)
	o := outage{fleet: newFleetOf(t, "127.0.0.1", issuer), clock: &issuertest.Clock{}}
	o.device = &running{engine: newEngine(), source: &source{}, ready: make(chan struct{})}
	client := issuer.HTTPClient()
	client.Transport = lasting{client.Transport, time.Hour}
	source := credential.NewOIDC(credential.OIDCConfig{
		Issuer: issuer.URL, Project: issuer.ProjectID, File: issuer.Machine("device-"+deviceID, role.Device),
		HTTPClient: client, Clock: o.clock.Now,
	})
	o.device.identity = source
	o.deploy("web", 1, web)
	first := must(source.Credential(t.Context()))(t)
	o.clock.Advance(3 * time.Minute)
	o.runAs(t.TempDir(), o.device)
	o.works("awake")
	issuer.Clock.Advance(time.Hour)
	for deadline := time.Now().Add(lasts + patience); ; time.Sleep(50 * time.Millisecond) { // the server ends the link, and the device learns why
		if again := must(source.Credential(t.Context()))(t); again.Token != first.Token {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it still presents the token that has ended")
		}
	}
	o.works("after its sleep")
	if left := first.Expires.Sub(o.clock.Now()); left < 30*time.Minute {
		t.Errorf("to the device the first token holds for %s: this test shows nothing", left)
	}
}

// lasting says of every token how long it lasts.
type lasting struct {
	http.RoundTripper
	time.Duration
}

func (l lasting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err != nil || r.Method != http.MethodPost {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	says := fmt.Appendf(nil, `"expires_in":%d`, int(l.Seconds()))
	body = regexp.MustCompile(`"expires_in":\d+`).ReplaceAll(body, says)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}
