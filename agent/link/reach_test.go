package link_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nationtech/fleetctl/agent/link"
	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/wire"
)

const patience = 10 * time.Second

type password struct{}

func (password) Credential(context.Context) (credential.Credential, error) {
	return credential.Credential{User: "pi-1", Password: "secret"}, nil
}

// broker is a real NATS server with TLS, a websocket with TLS, and JetStream.
func broker(t *testing.T, ca *pki.CA) (s *server.Server, tlsURL, wssURL string) {
	t.Helper()
	cert, err := ca.ServerCert("nats", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: "pi-1", Password: "secret", NoSigs: true, NoLog: true,
		TLS: true, TLSConfig: cert.TLSConfig(), JetStream: true, StoreDir: t.TempDir()}
	opts.Websocket.Host, opts.Websocket.Port, opts.Websocket.TLSConfig = "127.0.0.1", server.RANDOM_PORT, cert.TLSConfig()
	if s, err = server.NewServer(opts); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("NATS is not ready")
	}
	return s, "tls://" + s.Addr().String(), s.WebsocketURL()
}

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.Open(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// open gives a link that is up, or nil when it does not come up in time.
func open(t *testing.T, ca *pki.CA, within time.Duration, urls ...string) *link.Link {
	t.Helper()
	up := make(chan struct{}, 8)
	l, err := link.Open(t.Context(), link.Config{Device: "pi-1", URLs: urls, Roots: ca.Pool(), Source: password{},
		Log: slog.New(slog.DiscardHandler), Connected: func() { up <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	select {
	case <-up:
		return l
	case <-time.After(within):
		return nil
	}
}

// TestReach: by TLS or by a websocket, with the fleet's own CA, past servers
// that are not there, and never past a certificate of somebody else's.
func TestReach(t *testing.T) {
	ca := newCA(t)
	_, tlsURL, wssURL := broker(t, ca)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, urls := range map[string][]string{"TLS": {tlsURL}, "websocket": {wssURL}, "TLS, one is gone": {"tls://" + gone, tlsURL}, "websocket, one is gone": {"wss://" + gone, wssURL}} {
		t.Run(name, func(t *testing.T) {
			if open(t, ca, patience, urls...) == nil {
				t.Fatalf("not connected within %s", patience)
			}
		})
	}
	stranger := newCA(t)
	for name, url := range map[string]string{"TLS": tlsURL, "websocket": wssURL} {
		t.Run("another CA, "+name, func(t *testing.T) {
			if open(t, stranger, time.Second, url) != nil {
				t.Error("connected to a server whose certificate is not of our CA")
			}
		})
	}
}

// TestGetIsNotOlderThanTheHint: in a cluster a direct get may be answered from
// a copy that is behind. Here the bucket itself is behind: what the hint tells
// of is written while the device already asks.
func TestGetIsNotOlderThanTheHint(t *testing.T) {
	ca := newCA(t)
	_, url, _ := broker(t, ca)
	nc, err := nats.Connect(url, nats.UserInfo("pi-1", "secret"), nats.RootCAs(ca.Path()))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	subject := wire.BucketDesired.Subject(wire.ManifestKey("pi-1"))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: wire.BucketDesired.Stream(),
		Subjects: []string{wire.BucketDesired.Subject(">")}, MaxMsgsPerSubject: 1, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	put := func(text string) uint64 {
		ack, err := js.Publish(t.Context(), subject, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	sequence := put("old")

	l := open(t, ca, patience, url)
	if l == nil {
		t.Fatal("not connected")
	}
	hinted := make(chan struct{}, 1)
	if err := l.Subscribe(wire.HintSubject("pi-1"), func(string, []byte) { hinted <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	hint := func(sequence uint64) {
		m := nats.NewMsg(wire.HintSubject("pi-1"))
		m.Header.Set("Nats-Sequence", strconv.FormatUint(sequence, 10))
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
		<-hinted
	}
	get := func() string {
		data, found, err := l.Get(t.Context(), wire.BucketDesired, wire.ManifestKey("pi-1"))
		if err != nil || !found {
			t.Fatalf("get: %v, %v", found, err)
		}
		return string(data)
	}
	if got := get(); got != "old" { // and the server has the subscription, which went before
		t.Errorf("without a hint the device took %q", got)
	}
	hint(sequence + 1)
	time.AfterFunc(100*time.Millisecond, func() { _, _ = js.Publish(context.Background(), subject, []byte("new")) })
	if got := get(); got != "new" {
		t.Errorf("hinted of sequence %d, the device took %q", sequence+1, got)
	}

	// A lie costs a moment, once.
	hint(1 << 60)
	if got := get(); got != "new" {
		t.Errorf("after a hint that lied the device took %q", got)
	}
	began := time.Now()
	if get(); time.Since(began) > time.Second {
		t.Errorf("one lie holds up every get: %s", time.Since(began))
	}
}
