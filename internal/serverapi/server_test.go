package serverapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/serverapi"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/internal/serverapi/registry/registrytest"
	"github.com/nationtech/fleetctl/internal/serverapi/waiting"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/signing/rotation"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	patience = 15 * time.Second
	machineA = "0123456789abcdef0123456789abcdef"
	machineB = "fedcba9876543210fedcba9876543210"
)

// control is a control plane without Kubernetes: real broker, callout, API.
type control struct {
	*apiclient.Client
	url      string
	ca       *pki.CA
	token    string
	tokenF   string
	signer   *signing.Signer
	rotation *rotation.Rotation
	kube     *registrytest.Kube
	audit    *syncBuffer
	log      *audit.Log
	people   people
	issuer   *issuer
	ready    error

	metrics *prometheus.Registry
	scraper string // file with the token of a monitoring system

	registry *registry.Registry
	presence *presence.Tracker
}

func start(t *testing.T) *control {
	t.Helper()
	dir := t.TempDir()
	c := &control{audit: &syncBuffer{}, issuer: &issuer{keys: map[string]string{}}}
	log := slog.New(slog.NewTextHandler(c.audit, nil))
	quiet := slog.New(slog.DiscardHandler)
	ctx := t.Context()

	c.ca = must(pki.Open(filepath.Join(dir, "pki")))(t)
	cert := must(c.ca.ServerCert("server", []string{"127.0.0.1"}))(t)
	b := must(broker.Start(ctx, broker.Config{DataDir: filepath.Join(dir, "nats"), Listen: "127.0.0.1:0",
		TLS: cert.TLSConfig(), Devices: 10, Log: quiet}))(t)
	t.Cleanup(b.Close)
	c.kube = registrytest.NewKube()
	reg := must(c.kube.Open(ctx))(t)
	c.registry = reg
	fleetKey := must(callout.LoadFleetKey(filepath.Join(dir, "pki", "fleet.key")))(t)
	issuer, xkey := b.CalloutKeys()
	must(callout.Start(ctx, callout.Config{Conn: must(b.ConnectCallout())(t), Issuer: issuer, XKey: xkey,
		FleetKey: fleetKey, Denied: reg.Denied, Log: quiet}))(t)
	tracker := must(presence.Start(ctx, must(b.ConnectPresence())(t), quiet, presence.Options{}))(t)
	c.presence = tracker
	c.signer = must(signing.Open(filepath.Join(dir, "signing")))(t)
	c.rotation = rotation.New(rotation.Config{Signer: c.signer, Fleet: serverapi.FleetKeys{Registry: reg, Presence: tracker}, Log: quiet})
	conn := must(b.ConnectAPI())(t)
	c.tokenF = filepath.Join(dir, "pki", "admin-token")
	auth := must(serverapi.LoadAdminToken(c.tokenF))(t)
	c.log = must(audit.Open(filepath.Join(dir, "audit")))(t)
	t.Cleanup(func() { _ = c.log.Close() })
	c.people = people{}
	c.metrics, c.scraper = prometheus.NewRegistry(), filepath.Join(dir, "metrics-token")
	srv := must(serverapi.Start(serverapi.Config{
		Listener: must(net.Listen("tcp", "127.0.0.1:0"))(t), TLS: cert.TLSConfig(), Auth: serverapi.Either{auth, serverapi.IssuedTokens{Verifier: c.people}}, Audit: c.log, Registry: reg,
		Reports: must(kv.Open(conn))(t), Presence: tracker, Commands: commands.NewSender(conn, c.signer),
		Ready:    func(context.Context) error { return c.ready },
		NATSURLs: []string{fmt.Sprintf("tls://127.0.0.1:%d", b.Port())}, CAPEM: c.ca.PEM(), Signing: c.rotation,
		PSK: func(id string) string { return callout.PSK(fleetKey, id) }, SignIn: api.SignIn{SchemaVersion: api.SchemaVersion, Issuer: "https://issuer.example"}, Version: "v1.2.3", Log: log,
		Joins: waiting.New(must(join.Authority(c.ca.PEM()))(t), time.Now), Accounts: c.issuer.accounts,
		Metrics: c.metrics, Scrape: promhttp.HandlerFor(c.metrics, promhttp.HandlerOpts{}), Scraper: must(serverapi.LoadScrapeToken(c.scraper))(t),
	}))(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	c.url = "https://" + srv.Addr().String()
	c.token = string(must(os.ReadFile(c.tokenF))(t))
	c.Client = must(apiclient.New(c.url, c.ca.PEM(), c.token))(t)
	return c
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

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience) // of a whole test
	t.Cleanup(cancel)
	return ctx
}

// agent connects with what enrolment gave, answers commands with reply, and is
// back when the server knows that the device is there: NATS tells it of a
// connection on the side.
func (c *control) agent(t *testing.T, e api.Enrolment, reply func(wire.Command) []wire.Reply) *nats.Conn {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(e.CAPEM), 0o600); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(strings.Join(e.NATSURLs, ","), nats.UserInfo(e.DeviceID, string(e.PSK)),
		nats.RootCAs(ca), nats.CustomInboxPrefix(wire.InboxPrefix(e.DeviceID)), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	must(nc.Subscribe(wire.CommandSubject(e.DeviceID, "*"), func(m *nats.Msg) {
		var c wire.Command
		if err := wire.Open(wire.KindCommand, m.Data, e.SigningKeys.Keys, &c); err != nil {
			t.Errorf("command not signed by a pinned key: %v", err)
			return
		}
		if err := c.Validate(e.DeviceID, wire.VerbPing, time.Now()); err != nil {
			t.Error(err)
		}
		for _, r := range reply(c) {
			data, err := json.Marshal(r)
			if err == nil {
				err = nc.Publish(wire.ReplySubject(e.DeviceID, c.Nonce), data)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}))(t)
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	c.awaitConnected(t, e.DeviceID, nc)
	return nc
}

// awaitConnected waits until the server knows that the device is there.
func (c *control) awaitConnected(t *testing.T, device string, nc *nats.Conn) {
	t.Helper()
	cid := must(nc.GetClientID())(t)
	ctx, known := context.WithTimeout(t.Context(), patience)
	defer known()
	c.presence.Watch(ctx, func(string) {
		if is, _ := c.presence.Connection(device); is.CID == cid {
			known()
		}
	})
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Fatalf("the server does not know after %s that %s is connected", patience, device)
	}
}

func pong(wire.Command) []wire.Reply { return []wire.Reply{{Done: true}} }

// A preview is what enrolment gives afterwards, and leaves no trace in the
// registry.
func TestPreview(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	request := api.EnrolmentRequest{MachineID: machineA}
	preview := must(c.Preview(ctx, "pi-1", request))(t)
	if preview.Registered || preview.PSK == "" {
		t.Errorf("a preview of a stranger: %+v", preview)
	}
	if _, err := c.Device(ctx, "pi-1"); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("the device is known after a preview: %v", err)
	}
	enrolment := must(c.Enrol(ctx, "pi-1", request))(t)
	preview.Registered = true
	if !reflect.DeepEqual(enrolment, preview) {
		t.Errorf("previewed %+v, enrolled %+v", preview, enrolment)
	}
	if again := must(c.Preview(ctx, "pi-1", request))(t); !again.Registered {
		t.Error("a registered device is not said to be")
	}
	if _, err := c.Preview(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineB}); apiclient.Code(err) != api.CodeOtherMachine {
		t.Errorf("another machine: %v", err)
	}
}

func TestFromEnrolmentToRevocation(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	if _, err := c.Device(ctx, "pi-1"); apiclient.Code(err) != api.CodeNotFound {
		t.Fatalf("unknown device: %v", err)
	}
	e := must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t)
	again := must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t)
	if again.PSK != e.PSK || len(e.PSK) != 64 {
		t.Error("enrolling again gave another secret")
	}
	if d := must(c.Device(ctx, "pi-1"))(t); d.Connected || d.LastHeartbeat != nil || d.MachineID != machineA {
		t.Errorf("before the first connect: %+v", d)
	}
	if _, err := c.Ping(ctx, "pi-1"); apiclient.Code(err) != api.CodeDeviceOffline || hint.Code(err) != hint.CodeUnreachable {
		t.Errorf("ping of a device that is off: %v", err)
	}

	nc := c.agent(t, e, pong)
	for b, v := range map[wire.Bucket]any{
		wire.BucketHeartbeat: wire.Heartbeat{Device: "pi-1"},
		wire.BucketInfo:      wire.DeviceInfo{Device: "pi-1", Labels: map[string]string{"site": "lyon"}},
		wire.BucketState:     json.RawMessage(`"nonsense"`),
	} {
		key := map[wire.Bucket]string{wire.BucketHeartbeat: wire.HeartbeatKey("pi-1"), wire.BucketInfo: wire.InfoKey("pi-1"), wire.BucketState: wire.StateKey("pi-1")}[b]
		must(nc.Request(b.Subject(key), must(json.Marshal(v))(t), patience))(t)
	}
	d := must(c.Device(ctx, "pi-1"))(t)
	if !d.Connected || d.Address != "127.0.0.1" || d.LastHeartbeat == nil || time.Since(*d.LastHeartbeat) > patience ||
		d.Info == nil || d.Info.Labels["site"] != "lyon" || d.State != nil {
		t.Errorf("connected: %+v", d)
	}
	if p := must(c.Ping(ctx, "pi-1"))(t); p.RoundTripMillis <= 0 || p.RoundTripMillis > float64(patience.Milliseconds()) {
		t.Errorf("ping: %+v", p)
	}

	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	if d := must(c.Revoke(ctx, "pi-1"))(t); d.Revoked == nil {
		t.Errorf("revoked: %+v", d)
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("still connected 5 s after it was revoked")
	}
	if _, err := nats.Connect(e.NATSURLs[0], nats.UserInfo("pi-1", string(e.PSK)), nats.RootCAs(c.ca.Path())); err == nil {
		t.Error("a revoked device connected")
	}
	must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t)
	c.agent(t, e, pong)

	log := c.audit.String()
	for _, want := range []string{"op=enrol who=admin-token device=pi-1 from=127.0.0.1 outcome=ok", "op=revoke", "op=ping"} {
		if !strings.Contains(log, want) {
			t.Errorf("no audit line %q in:\n%s", want, log)
		}
	}
	if strings.Contains(log, string(e.PSK)) || strings.Contains(log, strings.TrimSpace(c.token)) {
		t.Error("a secret is in the log")
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", e, e, e), string(e.PSK)) {
		t.Error("printing an enrolment shows its secret")
	}
}

func TestIDOfAnotherMachine(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	e := must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t)
	_, err := c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineB})
	var refusal *apiclient.Error
	if !errors.As(err, &refusal) || refusal.Status != http.StatusConflict || refusal.Body.Code != api.CodeOtherMachine || hint.Of(err) == "" {
		t.Fatalf("another machine got the id: %v", err)
	}
	first := c.agent(t, e, pong)
	must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineB, Replace: true}))(t)
	for deadline := time.Now().Add(patience); !first.IsClosed(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the replaced machine is still connected")
		}
	}
	if d := must(c.Device(ctx, "pi-1"))(t); d.MachineID != machineB {
		t.Errorf("%+v", d)
	}
}

func TestCommandFailures(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	e := must(c.Enrol(ctx, "pi-1", api.EnrolmentRequest{MachineID: machineA}))(t)
	answer := []wire.Reply{}
	c.agent(t, e, func(wire.Command) []wire.Reply { return answer })

	answer = []wire.Reply{{Done: true, Error: &wire.ReplyError{Code: wire.ReplyRefused, Message: "command expired"}}}
	if _, err := c.Ping(ctx, "pi-1"); apiclient.Code(err) != api.CodeDeviceRefused || !strings.Contains(hint.Of(err), "clock") {
		t.Errorf("refusal: %v", err)
	}
	answer = []wire.Reply{{Sequence: 1, Done: true}}
	if _, err := c.Ping(ctx, "pi-1"); apiclient.Code(err) != api.CodeInternal {
		t.Errorf("answer with a gap: %v", err)
	}
	answer = nil
	began := time.Now()
	if _, err := c.Ping(ctx, "pi-1"); apiclient.Code(err) != api.CodeDeviceNoAnswer || hint.Code(err) != hint.CodeUnreachable {
		t.Errorf("no answer: %v after %s", err, time.Since(began))
	}
}

func TestRefusals(t *testing.T) {
	c := start(t)
	request := func(method, path, token, body string) (int, api.ErrorBody) {
		t.Helper()
		req := must(http.NewRequestWithContext(timeout(t), method, c.url+path, strings.NewReader(body)))(t)
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig(c.ca)}}
		defer client.CloseIdleConnections()
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var e api.ErrorBody
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			t.Fatalf("%s %s: answer is no JSON: %v", method, path, err)
		}
		return resp.StatusCode, e
	}
	admin := "Bearer " + strings.TrimSpace(c.token)
	good := `{"machineId":"` + machineA + `"}`
	for name, tt := range map[string]struct {
		method, path, token, body string
		status                    int
		code                      api.Code
	}{
		"no token":        {"POST", "/v1/devices/pi-1/enrolment", "", good, 401, api.CodeUnauthorized},
		"wrong token":     {"POST", "/v1/devices/pi-1/enrolment", "Bearer " + strings.Repeat("0", 64), good, 401, api.CodeUnauthorized},
		"other scheme":    {"GET", "/v1/devices/pi-1", "Basic " + strings.TrimSpace(c.token), "", 401, api.CodeUnauthorized},
		"empty token":     {"GET", "/v1/devices/pi-1", "Bearer ", "", 401, api.CodeUnauthorized},
		"id with dot":     {"POST", "/v1/devices/a.b/enrolment", admin, good, 400, api.CodeBadRequest},
		"id is wildcard":  {"POST", "/v1/devices/*/enrolment", admin, good, 400, api.CodeBadRequest},
		"id escapes":      {"POST", "/v1/devices/..%2Fx/enrolment", admin, good, 400, api.CodeBadRequest},
		"no body":         {"POST", "/v1/devices/pi-1/enrolment", admin, "", 400, api.CodeBadRequest},
		"not JSON":        {"POST", "/v1/devices/pi-1/enrolment", admin, "{", 400, api.CodeBadRequest},
		"two bodies":      {"POST", "/v1/devices/pi-1/enrolment", admin, good + good, 400, api.CodeBadRequest},
		"unknown field":   {"POST", "/v1/devices/pi-1/enrolment", admin, `{"machineId":"` + machineA + `","x":1}`, 400, api.CodeBadRequest},
		"raw machine id":  {"POST", "/v1/devices/pi-1/enrolment", admin, `{"machineId":"raw"}`, 400, api.CodeBadRequest},
		"bad subject":     {"POST", "/v1/devices/pi-1/enrolment", admin, `{"machineId":"` + machineA + `","subject":"a b"}`, 400, api.CodeBadRequest},
		"huge body":       {"POST", "/v1/devices/pi-1/enrolment", admin, `{"machineId":"` + strings.Repeat("a", 1<<20) + `"}`, 413, api.CodeTooLarge},
		"unknown path":    {"GET", "/v2/devices/pi-1", admin, "", 404, api.CodeNotFound},
		"wrong method":    {"PUT", "/v1/devices/pi-1/enrolment", admin, good, 405, api.CodeMethod},
		"unknown device":  {"GET", "/v1/devices/pi-9", admin, "", 404, api.CodeNotFound},
		"ping of unknown": {"POST", "/v1/devices/pi-9/commands/ping", admin, "", 404, api.CodeNotFound},
		"revoke unknown":  {"DELETE", "/v1/devices/pi-9/enrolment", admin, "", 404, api.CodeNotFound},
		"unknown command": {"POST", "/v1/devices/pi-1/commands/format", admin, "", 404, api.CodeNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := request(tt.method, tt.path, tt.token, tt.body)
			if status != tt.status || body.Error.Code != tt.code || body.Error.Message == "" {
				t.Errorf("got %d %+v, want %d %s", status, body, tt.status, tt.code)
			}
		})
	}
	// None of it registered anything.
	if _, err := c.Device(timeout(t), "pi-1"); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("a refused request registered the device: %v", err)
	}
}

func TestHealth(t *testing.T) {
	c := start(t)
	ctx := timeout(t)
	if v := must(c.Version(ctx))(t); v.Version != "v1.2.3" {
		t.Errorf("%+v", v)
	}
	if err := c.Ready(ctx); err != nil {
		t.Error(err)
	}
	c.ready = hint.New("operator: CRDs are not established", "wait")
	if err := c.Ready(ctx); apiclient.Code(err) != api.CodeNotReady || hint.Of(err) != "wait" {
		t.Errorf("not ready: %v", err)
	}
}

// syncBuffer is a log that a test reads while others write it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
