package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	patience = 30 * time.Second // for what has to happen, some of it in several steps of a second
)

// plane is NATS as the control plane sees it: the embedded server, or a
// cluster.
type plane interface {
	ConnectOperator() (*nats.Conn, error)
	ConnectAPI() (*nats.Conn, error)
	ConnectCallout() (*nats.Conn, error)
	ConnectPresence() (*nats.Conn, error)
	CalloutKeys() (issuer, xkey nkeys.KeyPair)
	Port() int // of one server after the other
	Server() *server.Server
}

// fleet is real servers with the real callout and the real issuer, as
// fleet-server runs them.
type fleet struct {
	t        testing.TB
	ca       *pki.CA
	issuer   *issuertest.Issuer
	broker   plane
	store    *kv.Store
	operator *nats.Conn
	api      *nats.Conn
	presence *presence.Tracker
	key      []byte     // of passwords
	judge    *nats.Conn // an administrator's

	mu       sync.Mutex
	denied   map[string]bool
	tokens   map[string]string
	flapping []string
	floods   []presence.Flood
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	return newFleetWith(t, broker.Start)
}

func newFleetWith(t testing.TB, run starter) *fleet {
	t.Helper()
	ca := newCA(t)
	return newFleetOn(t, ca, startWith(t, filepath.Join(t.TempDir(), "nats"), ca, run))
}

func newFleetOn(t testing.TB, ca *pki.CA, on plane) *fleet {
	t.Helper()
	return newFleetLimited(t, ca, on, presence.DefaultLimits())
}

func newFleetLimited(t testing.TB, ca *pki.CA, on plane, limits presence.Limits) *fleet {
	t.Helper()
	f := &fleet{t: t, ca: ca, broker: on, issuer: issuertest.Start(t), denied: map[string]bool{}, tokens: map[string]string{}}
	f.operator = must(f.broker.ConnectOperator())(t)
	f.api = must(f.broker.ConnectAPI())(t)
	f.store = must(kv.Open(f.operator))(t)
	denied := func(device string) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.denied[device]
	}
	f.presence = must(presence.Start(t.Context(), must(f.broker.ConnectPresence())(t), testLog(t), presence.Options{
		Handover: time.Second,
		Denied:   denied,
		Flapping: func(device string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.flapping = append(f.flapping, device)
		},
	}))(t)
	f.key = make([]byte, 32)
	copy(f.key, "a fleet key for tests alone")
	guard := presence.NewGuard(limits)
	go guard.Watch(t.Context(), must(f.broker.ConnectPresence())(t), f.presence, testLog(t), func(flood presence.Flood) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.floods = append(f.floods, flood)
	})
	issuer, xkey := f.broker.CalloutKeys()
	must(callout.Start(t.Context(), callout.Config{
		Conn: must(f.broker.ConnectCallout())(t), Issuer: issuer, XKey: xkey, FleetKey: f.key,
		Tokens: f.issuer.Verifier(t.Context()), DevicePrefix: "device-", Denied: denied, Held: guard.Held,
		Log: slog.New(slog.DiscardHandler),
	}))(t)
	f.judge = must(nats.Connect(f.url(), nats.Token(f.issuer.Token("judge", role.Admin)), nats.RootCAs(ca.Path()),
		nats.CustomInboxPrefix("_INBOX_admin"), nats.Timeout(patience)))(t)
	t.Cleanup(f.judge.Close)
	return f
}

func (f *fleet) url() string {
	return "tls://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(f.broker.Port()))
}

// token is a device's, minted with its own key.
func (f *fleet) token(id string) string {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tokens[id] == "" {
		f.tokens[id] = f.issuer.Token("device-"+id, role.Device)
	}
	return f.tokens[id]
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// device is a client with a device's credentials and nothing else.
type device struct {
	id     string
	nc     *nats.Conn
	errs   chan error // what the server told it asynchronously
	closed chan struct{}
}

func (f *fleet) dial(id string, opts ...nats.Option) (*device, error) {
	d := &device{id: id, errs: make(chan error, 256), closed: make(chan struct{})}
	var once sync.Once
	opts = append([]nats.Option{
		nats.Token(f.token(id)),
		nats.RootCAs(f.ca.Path()),
		nats.CustomInboxPrefix(wire.InboxPrefix(id)),
		nats.NoReconnect(),
		nats.Timeout(patience),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			select {
			case d.errs <- err:
			default:
			}
		}),
		nats.ClosedHandler(func(*nats.Conn) { once.Do(func() { close(d.closed) }) }),
	}, opts...)
	nc, err := nats.Connect(f.url(), opts...)
	d.nc = nc
	return d, err
}

func (f *fleet) device(t testing.TB, id string) *device {
	t.Helper()
	d, err := f.dial(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.nc.Close)
	return d
}

// put writes a key as a device may, and wants the acknowledgement.
func (d *device) put(b wire.Bucket, key string, data []byte) error {
	msg, err := d.nc.Request(b.Subject(key), data, patience)
	if err != nil {
		return err
	}
	if ack := string(msg.Data); !containsSeq(ack) {
		return errors.New("refused: " + ack)
	}
	return nil
}

func containsSeq(ack string) bool { return len(ack) > 0 && !errorAck(ack) }

// get reads a key of desired-state as a device may.
func (d *device) get(key string) (*nats.Msg, error) {
	return d.nc.Request(wire.BucketDesired.DirectGetSubject(key), nil, patience)
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// admin can look at anything in FLEET's JetStream: the judge of the attacks.
func (f *fleet) admin(t testing.TB) jetstream.JetStream {
	t.Helper()
	return must(jetstream.New(f.judge))(t)
}
