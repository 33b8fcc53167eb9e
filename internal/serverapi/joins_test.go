package serverapi_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent/join"
	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	protocol "github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/serverapi"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// issuer is the issuer's part; package provision has it tested on a real one.
type issuer struct {
	mu     sync.Mutex
	tokens []string          // that it was called with
	keys   map[string]string // device → public key
	fails  error
}

func (i *issuer) accounts(token, org string) (serverapi.DeviceAccounts, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tokens = append(i.tokens, token+"@"+org)
	return i, nil
}

func (i *issuer) Check(context.Context) error { return i.fails }

func (i *issuer) Ensure(_ context.Context, device string) (provision.Account, error) {
	return provision.Account{UserID: "user-of-" + device}, nil
}

func (i *issuer) Register(_ context.Context, user, public string) (zitadel.NewKey, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys[user] = public
	return zitadel.NewKey{ID: "7"}, nil
}

func (i *issuer) Prune(context.Context, string, string) error { return nil }

// asking is a device that asks to join.
type asking struct {
	code  string
	keys  devicekey.Store
	ended chan error
}

func (c *control) ask(t *testing.T, device, machine string) *asking {
	t.Helper()
	a := &asking{keys: devicekey.Store{Dir: t.TempDir(), Owner: secretfile.Owner{UID: os.Getuid(), GID: os.Getgid()}}, ended: make(chan error, 1)}
	shown := make(chan string, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.ended <- join.Run(ctx, join.Config{
			Server: c.url, CAPEM: c.ca.PEM(), DeviceID: device, MachineID: machine, Keys: a.keys, Poll: 20 * time.Millisecond,
			Facts: protocol.Facts{Model: "Raspberry Pi 4"}, Show: func(n join.Notice) { shown <- n.Code }, Log: slog.New(slog.DiscardHandler),
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case a.code = <-shown:
	case err := <-a.ended:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("no code is shown")
	}
	return a
}

func (a *asking) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-a.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the device still waits")
		return nil
	}
}

func TestJoinIsApproved(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	device := c.ask(t, "pi-1", machineA)
	admin := c.as(t, "ada", role.Admin)

	list := must(c.as(t, "vera", role.Viewer).Joins(ctx))(t)
	if len(list.Requests) != 1 || list.Requests[0].DeviceID != "pi-1" || list.Requests[0].Address != "127.0.0.1" || list.Requests[0].Facts.Model != "Raspberry Pi 4" || list.Requests[0].Known {
		t.Errorf("waiting: %+v", list)
	}
	if _, err := admin.ApproveJoin(ctx, "pi-1", protocol.Approval{Code: "BCDF-GHJK"}); apiclient.Code(err) != api.CodeNoSuchJoin || hint.Of(err) == "" {
		t.Errorf("a wrong code: %v", err)
	}
	for name, client := range map[string]*apiclient.Client{"an operator": c.as(t, "otto", role.Operator), "the administrator's token": c.Client} {
		if _, err := client.ApproveJoin(ctx, "pi-1", protocol.Approval{Code: device.code}); apiclient.Code(err) != api.CodeForbidden || hint.Of(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.issuer.fails = hint.WithCode(hint.New("no such project", "name it with --org-id"), hint.CodeAuth)
	if _, err := admin.ApproveJoin(ctx, "pi-1", protocol.Approval{Code: device.code}); apiclient.Code(err) != api.CodeIssuer || !strings.Contains(hint.Of(err), "--org-id") {
		t.Errorf("an issuer that refuses: %v", err)
	}
	c.issuer.fails = nil
	if d := must(admin.ApproveJoin(ctx, "pi-1", protocol.Approval{Code: device.code, OrgID: "42"}))(t); d.MachineID != machineA || d.Enrolled == nil {
		t.Errorf("approved: %+v", d)
	}
	if err := device.end(t); err != nil {
		t.Fatal(err)
	}
	keys := must(device.keys.Show())(t)
	if keys.Identity == nil || keys.Identity.UserID != "user-of-pi-1" || keys.Identity.KeyID != "7" || c.issuer.keys["user-of-pi-1"] != keys.Identity.PublicKey {
		t.Errorf("the device has %+v, the issuer %q", keys.Identity, c.issuer.keys)
	}
	if e, ok := c.registry.Get("pi-1"); !ok || e.Subject != "user-of-pi-1" {
		t.Errorf("registered: %+v", e)
	}
	if !slices.Contains(c.issuer.tokens, "token-ada@42") {
		t.Errorf("the issuer was called with %q, not with the token of who approved", c.issuer.tokens)
	}
	if left := must(admin.Joins(ctx))(t); len(left.Requests) != 0 {
		t.Errorf("still waiting: %+v", left)
	}
	got := must(c.Audit(ctx, apiclient.AuditQuery{Device: "pi-1"}))(t)
	var who []string
	for _, r := range got.Records {
		if r.Action == "approve join" && r.Outcome == "ok" {
			who = append(who, r.Who)
		}
	}
	if !slices.Equal(who, []string{"ada"}) {
		t.Errorf("on record: %+v", got.Records)
	}
}

func TestJoinIsDenied(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	device := c.ask(t, "pi-1", machineA)
	if _, err := c.as(t, "otto", role.Operator).DenyJoin(ctx, "pi-1"); apiclient.Code(err) != api.CodeForbidden {
		t.Errorf("an operator denied it: %v", err)
	}
	admin := c.as(t, "ada", role.Admin)
	if d := must(admin.DenyJoin(ctx, "pi-1"))(t); d.Denied != 1 {
		t.Errorf("denied %+v", d)
	}
	if err := device.end(t); !errors.Is(err, join.ErrDenied) {
		t.Errorf("the device hears %v", err)
	}
	if _, err := admin.DenyJoin(ctx, "pi-1"); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("denied twice: %v", err)
	}
	if _, err := c.Device(ctx, "pi-1"); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("it is known all the same: %v", err)
	}
}

// An id that another machine has is not given away by approving.
func TestJoinWithAnothersID(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineB}))(t)
	device := c.ask(t, "pi-1", machineA)
	admin := c.as(t, "ada", role.Admin)
	if list := must(admin.Joins(ctx))(t); len(list.Requests) != 1 || !list.Requests[0].OtherMachine {
		t.Errorf("waiting: %+v", list)
	}
	if _, err := admin.ApproveJoin(ctx, "pi-1", protocol.Approval{Code: device.code}); apiclient.Code(err) != api.CodeOtherMachine {
		t.Errorf("approved: %v", err)
	}
	if len(c.issuer.keys) != 0 {
		t.Errorf("the issuer got a key: %v", c.issuer.keys)
	}
}

// One address cannot fill the list, and is told to come back.
func TestJoinsAreLimited(t *testing.T) {
	c := start(t)
	store := devicekey.Store{Dir: t.TempDir(), Owner: secretfile.Owner{UID: os.Getuid(), GID: os.Getgid()}}
	var last error
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		last = join.Run(ctx, join.Config{Server: c.url, CAPEM: c.ca.PEM(), DeviceID: "pi-" + string(rune('a'+i)), MachineID: machineA, Keys: store,
			Show: func(join.Notice) { cancel() }, Log: slog.New(slog.DiscardHandler)})
		cancel()
		if !errors.Is(last, context.Canceled) {
			break
		}
	}
	if errors.Is(last, context.Canceled) || !strings.Contains(last.Error(), "too many requests") || hint.Of(last) == "" {
		t.Errorf("twenty requests at once: %v", last)
	}
}
