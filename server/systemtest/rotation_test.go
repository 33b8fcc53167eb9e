package systemtest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent"
	"github.com/nationtech/fleetctl/agent/link"
	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

// TestRotateSigningKey leads a fleet of real agents from one signing key to the
// next, with the server killed in every phase, a device that is away while the
// key is announced, and one that is enrolled in between.
func TestRotateSigningKey(t *testing.T) {
	dir := dataDir(t)
	p := start(t, dir, "--allow-psk")
	restart := func() *apiclient.Client {
		p.stop(syscall.SIGKILL)
		p = start(t, dir, "--allow-psk")
		return apiClient(t, p)
	}
	server := apiClient(t, p)
	here, away := newAgent(enrol(t, server, "pi-1")), newAgent(enrol(t, server, "pi-2"))
	here.start()
	away.start()
	old := awaitTrust(t, server, "both devices", func(k api.SigningKey) bool { return k.Devices == 2 && len(k.Lacking) == 0 }).Keys[0].ID
	away.stop()
	awaitOffline(t, server, away)

	k, err := server.RotateSigningKey(t.Context())
	if err != nil || k.Phase != api.SigningAnnounced || len(k.Keys) != 2 || !k.Keys[0].Signs || k.Keys[0].ID != old {
		t.Fatalf("%+v, %v", k, err)
	}
	successor := k.Keys[1].ID
	if _, err := server.RotateSigningKey(t.Context()); apiclient.Code(err) != api.CodeRotation {
		t.Errorf("a second successor: %v", err)
	}
	if server = restart(); !here.trusts(t, server, old, successor) {
		t.Error("the device that is connected does not learn of the successor")
	}

	// Once all that are connected have it, it signs, by itself.
	k = awaitTrust(t, server, "the successor to sign", func(k api.SigningKey) bool { return k.Phase == api.SigningSwitched })
	if !k.Keys[1].Signs || k.Keys[1].ID != successor || len(k.Lacking) != 1 || k.Lacking[0] != (api.LackingDevice{DeviceID: away.ID}) {
		t.Errorf("%+v", k)
	}
	server = restart()
	ping(t, server, here)
	if _, err := server.FinishRotation(t.Context(), false); apiclient.Code(err) != api.CodeKeyLacking || !strings.Contains(err.Error(), away.ID) {
		t.Errorf("finished though a device lacks the key: %v", err)
	}
	enrolled := newAgent(enrol(t, server, "pi-3"))
	if got := enrolled.e.SigningKeys.IDs(); !slices.Equal(got, []string{old, successor}) {
		t.Errorf("enrolled with %v", got)
	}
	enrolled.start()
	away.start()
	if !away.trusts(t, server, old, successor) || !enrolled.trusts(t, server, old, successor) {
		t.Error("who was away does not catch up")
	}
	ping(t, server, away)
	ping(t, server, enrolled)

	awaitTrust(t, server, "all three to be known to have it", func(k api.SigningKey) bool { return k.Devices == 3 && len(k.Lacking) == 0 })

	if k, err = server.FinishRotation(t.Context(), false); err != nil || k.Phase != api.SigningIdle || len(k.Keys) != 1 || k.Keys[0].ID != successor {
		t.Fatalf("%+v, %v", k, err)
	}
	server = restart()
	for _, a := range []*realAgent{here, away, enrolled} {
		if !a.trusts(t, server, successor) {
			t.Errorf("%s does not drop the old key", a.ID)
		}
		a.stop()
		a.start()
		ping(t, server, a)
	}
	record, err := server.Audit(t.Context(), apiclient.AuditQuery{Limit: 50})
	if err != nil || !slices.ContainsFunc(record.Records, func(r audit.Record) bool { return r.Action == "finish rotation of signing key" && r.Outcome == "ok" }) {
		t.Errorf("not on record: %+v, %v", record, err)
	}
	p.stopCleanly()
}

func awaitTrust(t *testing.T, server *apiclient.Client, what string, good func(api.SigningKey) bool) (k api.SigningKey) {
	t.Helper()
	eventually(t, what, func(ctx context.Context) (_ bool, err error) {
		k, err = server.SigningKey(ctx)
		return err == nil && good(k), err
	})
	return k
}

func awaitOffline(t *testing.T, server *apiclient.Client, a *realAgent) {
	t.Helper()
	eventually(t, a.ID+" to be away", func(ctx context.Context) (bool, error) {
		d, err := server.Device(ctx, a.ID)
		return err == nil && !d.Connected, err
	})
}

// ping shows that a device obeys what is signed now.
func ping(t *testing.T, server *apiclient.Client, a *realAgent) {
	t.Helper()
	eventually(t, a.ID+" to answer", func(ctx context.Context) (bool, error) {
		_, err := server.Ping(ctx, a.ID)
		return err == nil, nil
	})
}

// realAgent is the agent's control loop without containers.
type realAgent struct {
	*device
	dir  string
	stop func()
}

func newAgent(d *device) *realAgent { return &realAgent{device: d, dir: d.t.TempDir()} }

func (a *realAgent) start() {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(a.e.CAPEM))
	log := slog.New(slog.DiscardHandler)
	loop, err := agent.New(agent.Config{
		Device: a.ID, Version: "test", StateDir: a.dir, MachineID: a.machine,
		Engine: &agent.NoEngine{Reason: "test"}, EngineName: "none",
		Keys: func() ([]byte, error) { return json.Marshal(a.e.SigningKeys) },
		Connect: func(ctx context.Context, connected func()) (agent.Link, error) {
			return link.Open(ctx, link.Config{Device: a.ID, URLs: a.e.NATSURLs, Roots: roots, Source: password{a.ID, string(a.e.PSK)}, Log: log, Connected: connected})
		},
		Inventory: func() wire.Inventory { return wire.Inventory{Hostname: a.ID} }, Supervisor: unwatched{}, Log: log,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Errorf("agent of %s: %v", a.ID, err)
		}
	})
	a.t.Cleanup(a.stop)
}

// trusts says whether the device comes to say that it trusts these keys.
func (a *realAgent) trusts(t *testing.T, server *apiclient.Client, keys ...string) bool {
	t.Helper()
	deadline := time.Now().Add(startDeadline)
	for time.Now().Before(deadline) {
		d, err := server.Device(t.Context(), a.ID)
		if err == nil && d.Info != nil && slices.Equal(d.Info.SigningKeys, keys) {
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

type password struct{ user, password string }

func (p password) Credential(context.Context) (credential.Credential, error) {
	return credential.Credential{User: p.user, Password: credential.Secret(p.password)}, nil
}

type unwatched struct{}

func (unwatched) Ready()                          {}
func (unwatched) Stopping()                       {}
func (unwatched) Status(string)                   {}
func (unwatched) Alive()                          {}
func (unwatched) WatchdogInterval() time.Duration { return 0 }
