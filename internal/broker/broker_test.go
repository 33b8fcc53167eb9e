package broker_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/pki"
)

type starter = func(context.Context, broker.Config) (*broker.Broker, error)

// start runs a broker in dir on a free loopback port, until the test ends.
func start(t testing.TB, dir string, ca *pki.CA) *broker.Broker {
	t.Helper()
	return startWith(t, dir, ca, broker.Start)
}

func startWith(t testing.TB, dir string, ca *pki.CA, run starter) *broker.Broker {
	t.Helper()
	cert, err := ca.ServerCert("nats", []string{"127.0.0.1", "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	b, err := run(t.Context(), broker.Config{
		DataDir: dir, Listen: "127.0.0.1:0", TLS: cert.TLSConfig(), Devices: 100, Log: testLog(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func newCA(t testing.TB) *pki.CA {
	t.Helper()
	ca, err := pki.Open(t.TempDir() + "/pki")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// testLog shows warnings and errors with the test that caused them.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func TestStartAndRestart(t *testing.T) {
	ca := newCA(t)
	dir := t.TempDir() + "/nats"
	began := time.Now()
	b := start(t, dir, ca)
	t.Logf("ready after %s", time.Since(began))
	if !b.Ready() {
		t.Error("started and not ready")
	}
	b.Close()
	b.Close()
	if b.Ready() {
		t.Error("closed and ready")
	}
	start(t, dir, ca)
}

func TestTakenPortIsAnErrorAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cert, err := newCA(t).ServerCert("nats", []string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = broker.Start(ctx, broker.Config{
		DataDir: t.TempDir() + "/nats", Listen: l.Addr().String(), TLS: cert.TLSConfig(), Log: testLog(t),
	})
	if err == nil || hint.Of(err) == "" || ctx.Err() != nil {
		t.Fatalf("want an error with a hint at once, got %v", err)
	}
}
