package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/pki"
)

// A sample by default; scripts/bench asks for the figures of docs/benchmarks.md.
var (
	stormDevices  = flag.Int("storm.devices", 100, "devices that connect, 64 at a time")
	stormRestart  = flag.Int("storm.restart", 200, "devices that are connected when the server restarts")
	stormParallel = flag.Int("storm.parallel", 64, "devices that connect at a time")
	stormTargets  = flag.Bool("storm.targets", false, "fail when a target of docs/benchmarks.md is missed")
)

const (
	connectRate     = 250 // a second, at least
	decisionAtMost  = 20 * time.Millisecond
	restartedWithin = time.Minute
)

// TestConnectStorm connects a fleet with access tokens, as agents do and from a
// process of its own, and restarts the server under another. Decisions are timed
// on the callout's connection: from the bytes of a request being read to those
// of its answer being written, waits for the processor included.
func TestConnectStorm(t *testing.T) {
	s := newStorm(t, max(*stormDevices, *stormRestart))
	stop := s.start()
	began := time.Now()
	clients := s.clients(*stormDevices)
	last := clients.await(t, *stormDevices, 2*restartedWithin)
	rate := float64(*stormDevices) / last.Sub(began).Seconds()
	p50, p99, worst := s.decisions.quantiles()
	t.Logf("%d devices connected: %.0f/s; decisions p50 %s, p99 %s, at most %s", *stormDevices, rate, p50, p99, worst)
	clients.end()
	if *stormTargets && (rate < connectRate || p99 > decisionAtMost) {
		t.Errorf("%.0f connects/s, at least %d; decision p99 %s, at most %s", rate, connectRate, p99, decisionAtMost)
	}

	clients = s.clients(*stormRestart)
	clients.await(t, *stormRestart, 2*restartedWithin)
	s.decisions.reset()
	clients.reset()
	down := time.Now()
	stop()
	stop = s.start()
	defer stop()
	up := time.Now()
	back := clients.await(t, *stormRestart, 2*restartedWithin).Sub(down)
	p50, p99, worst = s.decisions.quantiles()
	t.Logf("%d devices back %s after the server went down, which was ready again after %s; decisions p50 %s, p99 %s, at most %s",
		*stormRestart, back.Round(time.Millisecond), up.Sub(down).Round(time.Millisecond), p50, p99, worst)
	clients.end()
	if *stormTargets && back > restartedWithin {
		t.Errorf("back after %s, at most %s", back, restartedWithin)
	}
}

// storm is what a restart of the server leaves: addresses, keys and tokens.
type storm struct {
	t         *testing.T
	ca        *pki.CA
	issuer    *issuertest.Issuer
	dir       string
	port      int
	devices   []stormDevice
	decisions *stopwatch
}

type stormDevice struct{ ID, Token string }

func newStorm(t *testing.T, devices int) *storm {
	s := &storm{t: t, ca: newCA(t), issuer: issuertest.Start(t), dir: filepath.Join(t.TempDir(), "nats"), decisions: &stopwatch{}}
	sign := s.issuer.Signer()
	for i := range devices {
		id := fmt.Sprintf("pi-%d", i)
		s.devices = append(s.devices, stormDevice{id, sign(s.issuer.Claims("device-"+id, role.Device))})
	}
	return s
}

// start runs broker, callout and presence, as fleet-server does, until stop.
func (s *storm) start() (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	cert := must(s.ca.ServerCert("nats", []string{"127.0.0.1"}))(s.t)
	var b *broker.Broker
	eventually(s.t, "the port is free again", func() bool {
		var err error
		b, err = broker.Start(ctx, broker.Config{
			DataDir: s.dir, Listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), TLS: cert.TLSConfig(), Log: testLog(s.t),
		})
		if err != nil && !errors.Is(err, syscall.EADDRINUSE) { // by a connection of another test that goes out from it
			s.t.Fatal(err)
		}
		return err == nil
	})
	s.port = b.Port()
	must(presence.Start(ctx, must(b.ConnectPresence())(s.t), testLog(s.t), presence.Options{}))(s.t)
	issuer, xkey := b.CalloutKeys()
	must(callout.Start(ctx, callout.Config{
		Conn: must(b.ConnectCalloutThrough(s.decisions.watch))(s.t), Issuer: issuer, XKey: xkey,
		Tokens: s.issuer.Verifier(ctx), DevicePrefix: "device-", Deciding: b.Deciding, Log: slog.New(slog.DiscardHandler),
	}))(s.t)
	return func() {
		cancel()
		b.Close()
	}
}

// clients starts the first n devices in a process of their own.
func (s *storm) clients(n int) *stormClients {
	s.t.Helper()
	ask, err := json.Marshal(stormAsk{
		URL: "tls://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), CAPEM: string(s.ca.PEM()),
		Parallel: *stormParallel, Devices: s.devices[:n],
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return startStormClients(s.t, ask)
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(10 * time.Microsecond)
}

func (w *stopwatch) quantiles() (p50, p99, worst time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sorted := slices.Sorted(slices.Values(w.took))
	return quantile(sorted, 0.5), quantile(sorted, 0.99), quantile(sorted, 1)
}
