// Package broker is the embedded NATS server: its accounts, what each part of
// the control plane may do in them, its buckets, and its life. It does not
// decide who a device is (internal/callout does), nor what is in the buckets
// (kv reads and writes them). The accounts were attacked with real servers;
// the attack tests here have to pass on every upgrade of nats-server.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	tlsTimeout     = 10 * time.Second
	startTimeout   = 30 * time.Second
	minConnections = 16 << 10
	defaultDevices = 10_000
)

// Config says how to run the server.
type Config struct {
	DataDir string       // holds JetStream's files; made with mode 0700
	Listen  string       // host:port; port 0 picks a free one
	TLS     *tls.Config  // server side; required
	Devices int          // the most devices there will be; 0 means 10,000
	Log     *slog.Logger // required
}

// Broker is a running server.
type Broker struct {
	srv    *server.Server
	ids    identities
	issuer nkeys.KeyPair
	xkey   nkeys.KeyPair
	conns  []*nats.Conn

	admission   *admission
	buckets     jetstream.JetStream // as accounts.RoleBuckets
	stopKeeping context.CancelFunc
}

// Start runs the server, with its buckets in place. Devices are refused until
// a callout answers for them.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	return start(ctx, cfg, accounts.Embedded)
}

func start(ctx context.Context, cfg Config, configured func(accounts.Keys) accounts.File) (*Broker, error) {
	if cfg.Devices == 0 {
		cfg.Devices = defaultDevices
	}
	if cfg.TLS == nil {
		return nil, errors.New("start NATS server: no TLS configuration")
	}
	if err := secretfile.EnsureDir(cfg.DataDir); err != nil {
		return nil, err
	}
	b := &Broker{admission: newAdmission()}
	opts, err := b.options(cfg, configured)
	if err != nil {
		return nil, fmt.Errorf("configure NATS server: %w", err)
	}
	if err := free(cfg.Listen); err != nil {
		return nil, hint.Wrap(fmt.Errorf("start NATS server: %w", err),
			"stop what listens there, or choose another port")
	}
	if b.srv, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("start NATS server: %w", err)
	}
	b.srv.SetLoggerV2(logger{cfg.Log}, false, false, false)
	b.srv.Start()
	if err := b.ready(ctx, cfg); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Broker) ready(ctx context.Context, cfg Config) error {
	timeout := startTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if !b.srv.ReadyForConnections(timeout) {
		return hint.New(fmt.Sprintf("NATS server on %s was not ready within %s", cfg.Listen, timeout.Round(time.Second)),
			"see the server's log for what it says about NATS or JetStream")
	}
	nc, err := b.connect(accounts.RoleBuckets)
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	b.buckets = js
	limited, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	sizing := Sizing{Devices: cfg.Devices}
	if err := EnsureBuckets(limited, js, sizing); err != nil {
		return err
	}
	keeping, stop := context.WithCancel(context.Background())
	b.stopKeeping = stop
	go KeepBuckets(keeping, js, sizing, cfg.Log)
	return nil
}

func (b *Broker) options(cfg Config, configured func(accounts.Keys) accounts.File) (*server.Options, error) {
	host, portText, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("listen address %q: port: %w", cfg.Listen, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	if b.ids, err = newIdentities(); err != nil {
		return nil, err
	}
	callout, err := b.calloutOptions()
	if err != nil {
		return nil, err
	}
	text, err := configured(b.ids.public()).Encode()
	if err != nil {
		return nil, err
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(text); err != nil {
		return nil, err
	}
	opts.AuthCallout = callout
	opts.ServerName = "fleet-server"
	opts.Host, opts.Port = host, port
	opts.TLS, opts.TLSConfig = true, b.admission.paced(cfg.TLS)
	opts.TLSTimeout = tlsTimeout.Seconds()
	opts.AuthTimeout = accounts.AuthTimeout.Seconds()
	opts.PingInterval, opts.MaxPingsOut = wire.PingInterval, accounts.MaxPingsOut
	opts.MaxConn = max(minConnections, 2*cfg.Devices)
	opts.MaxPayload = accounts.MaxPayload()
	opts.JetStream = true
	opts.StoreDir = cfg.DataDir
	opts.JetStreamMaxStore = storageBytes(cfg.Devices)
	opts.DisableJetStreamBanner = true
	opts.NoSigs = true // the process handles its signals itself
	return opts, nil
}

func (b *Broker) calloutOptions() (*server.AuthCallout, error) {
	var err error
	if b.issuer, err = nkeys.CreateAccount(); err != nil {
		return nil, err
	}
	if b.xkey, err = nkeys.CreateCurveKeys(); err != nil {
		return nil, err
	}
	issuer, err := b.issuer.PublicKey()
	if err != nil {
		return nil, err
	}
	xkey, err := b.xkey.PublicKey()
	if err != nil {
		return nil, err
	}
	return &server.AuthCallout{
		Issuer:    issuer,
		XKey:      xkey,
		Account:   wire.AccountSystem,
		AuthUsers: b.ids.public().Users(),
	}, nil
}

// free makes a taken port an error at once: the server itself only logs it.
func free(listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	return l.Close()
}

// Port is the one that clients connect to.
func (b *Broker) Port() int {
	if addr, ok := b.srv.Addr().(*net.TCPAddr); ok {
		return addr.Port
	}
	return 0
}

// Ready says whether the server takes connections and JetStream is up.
func (b *Broker) Ready() bool {
	return b.srv.Running() && b.srv.JetStreamEnabled()
}

// CalloutKeys are what internal/callout signs decisions and decrypts requests
// with. They last as long as the server.
func (b *Broker) CalloutKeys() (issuer, xkey nkeys.KeyPair) { return b.issuer, b.xkey }

// Deciding is for a callout in this process: it is called when a decision begins,
// and what it gives when it is made. The server lets clients in at the pace at
// which they are decided about.
func (b *Broker) Deciding() (done func()) {
	b.admission.asked()
	return b.admission.decided
}

// ConnectOperator is for kv.Open: writes desired state, watches reports.
func (b *Broker) ConnectOperator() (*nats.Conn, error) { return b.connect(accounts.RoleOperator) }

// ConnectAPI is for internal/serverapi: sends commands, reads reports.
func (b *Broker) ConnectAPI() (*nats.Conn, error) { return b.connect(accounts.RoleAPI) }

// ConnectCallout is for internal/callout: hears authorization requests.
func (b *Broker) ConnectCallout() (*nats.Conn, error) { return b.connect(accounts.RoleCallout) }

// ConnectPresence is for presence: hears connects, disconnects devices.
func (b *Broker) ConnectPresence() (*nats.Conn, error) { return b.connect(accounts.RolePresence) }

// connect makes a connection inside this process. The broker closes it.
func (b *Broker) connect(name string) (*nats.Conn, error) {
	id := b.ids[name]
	nc, err := nats.Connect("", append(id.options(), nats.InProcessServer(b.srv))...)
	if err != nil {
		return nil, fmt.Errorf("connect %s to NATS: %w", name, err)
	}
	b.conns = append(b.conns, nc)
	return nc, nil
}

// Wipe deletes every bucket, as losing JetStream's disk does while the server
// runs: for drills. Within seconds they are there again, and the operator and
// the agents fill them.
func (b *Broker) Wipe(ctx context.Context) error {
	nc, err := b.connect(accounts.RoleBuckets)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	for _, bucket := range wire.Buckets() {
		if err := js.DeleteStream(ctx, bucket.Stream()); err != nil {
			return fmt.Errorf("delete bucket %s: %w", bucket, err)
		}
	}
	return nil
}

// Close ends every connection and the server, with its data on disk. It may be
// called twice.
func (b *Broker) Close() {
	if b.stopKeeping != nil {
		b.stopKeeping()
	}
	for _, nc := range b.conns {
		nc.Close()
	}
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}
