package serverapi_test

import (
	"context"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// people are the tokens that are good; verify's own tests say which those are.
type people map[string]verify.Claims

func (p people) Verify(_ context.Context, token string) (verify.Claims, error) {
	claims, ok := p[token]
	if !ok {
		return claims, verify.ErrExpired
	}
	return claims, nil
}

// as gives a client with the token of someone with these roles.
func (c *control) as(t *testing.T, name string, roles ...string) *apiclient.Client {
	t.Helper()
	c.people["token-"+name] = verify.Claims{Subject: "id-of-" + name, Username: name, Roles: roles}
	return must(apiclient.New(c.url, c.ca.PEM(), "token-"+name))(t)
}

// TestRoles: each request wants its role, and a refused one changes nothing
// and is on record.
func TestRoles(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t)
	requests := []struct {
		name string
		from string // the least role
		do   func(*apiclient.Client) error
	}{
		{"look", role.Viewer, func(a *apiclient.Client) error { _, err := a.Device(ctx, "pi-1"); return err }},
		{"probe", role.Viewer, func(a *apiclient.Client) error { _, err := a.Probe(ctx, "pi-1"); return err }},
		{"ping", role.Operator, func(a *apiclient.Client) error { _, err := a.Ping(ctx, "pi-1"); return err }},
		{"enrol", role.Admin, func(a *apiclient.Client) error {
			_, err := a.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA})
			return err
		}},
		{"audit", role.Admin, func(a *apiclient.Client) error { _, err := a.Audit(ctx, apiclient.AuditQuery{}); return err }},
		{"revoke", role.Admin, func(a *apiclient.Client) error { _, err := a.Revoke(ctx, "pi-1"); return err }},
	}
	for _, r := range []string{role.Device, "", role.Viewer, role.Operator, role.Admin} {
		client := c.as(t, "has-"+r, r)
		for _, request := range requests {
			err := request.do(client)
			forbidden := apiclient.Code(err) == api.CodeForbidden
			if allowed := role.Allows([]string{r}, request.from); allowed == forbidden {
				t.Errorf("%q: %s: %v", r, request.name, err)
			}
			if forbidden && (hint.Code(err) != hint.CodeAuth || hint.Of(err) == "") {
				t.Errorf("%q: %s: exit code %d, hint %q", r, request.name, hint.Code(err), hint.Of(err))
			}
			if d := must(c.Device(ctx, "pi-1"))(t); r != role.Admin && d.Revoked != nil {
				t.Fatalf("%q revoked the device", r)
			}
		}
	}
	got := must(c.Audit(ctx, apiclient.AuditQuery{User: "has-" + role.Viewer, Device: "pi-1", Since: time.Now().Add(-time.Hour)}))(t)
	if len(got.Records) != 3 || !got.Intact {
		t.Errorf("a viewer's three refused tries: %+v", got)
	}
	for _, r := range got.Records {
		if r.Outcome == "ok" || r.Subject != "id-of-has-"+role.Viewer || r.From != "127.0.0.1" || time.Since(r.At) > time.Minute {
			t.Errorf("%+v", r)
		}
	}
	if got := must(c.Audit(ctx, apiclient.AuditQuery{User: "has-" + role.Admin, Limit: 1}))(t); len(got.Records) != 1 ||
		got.Records[0].Action != "revoke" || got.Records[0].Outcome != "ok" {
		t.Errorf("the newest of the administrator's: %+v", got.Records)
	}
}

// TestUnrecorded: when nothing can be recorded, nothing is done; strangers
// leave no record.
func TestUnrecorded(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	stranger := must(apiclient.New(c.url, c.ca.PEM(), "made-up"))(t)
	if _, err := stranger.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}); hint.Code(err) != hint.CodeAuth || hint.Of(err) == "" {
		t.Errorf("a made-up token: %v", err)
	}
	if r := must(c.log.Query(audit.Filter{}))(t); len(r.Records) != 0 {
		t.Errorf("a stranger is on record: %+v", r.Records)
	}
	if err := c.log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.log.Append(audit.Record{}, time.Now()); err == nil {
		t.Fatal("a closed log took a record")
	}
	if _, err := c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}); apiclient.Code(err) != api.CodeInternal {
		t.Errorf("enrolment without a record: %v", err)
	}
	if _, err := c.Device(ctx, "pi-1"); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("it was enrolled all the same: %v", err)
	}
}

func TestSignIn(t *testing.T) {
	c := start(t)
	open := must(apiclient.New(c.url, c.ca.PEM(), ""))(t)
	if s := must(open.SignIn(timeout(t)))(t); s.Issuer != "https://issuer.example" {
		t.Errorf("%+v", s)
	}
}
