package join_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent/config"
	"github.com/nationtech/fleetctl/agent/join"
	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	protocol "github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/keyfile"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/internal/serverapi/waiting"
)

// server answers as fleet-server does, with a list of who waits. Its paths are
// tested together with the real one's in packages serverapi and e2e.
type server struct {
	url  string
	ca   *pki.CA
	list *waiting.List

	mu  sync.Mutex
	now time.Time
}

func authority(t *testing.T) *pki.CA {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca, err := pki.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// serve gives the URL of a server whose certificate is from ca.
func serve(t *testing.T, ca *pki.CA, h http.Handler) string {
	t.Helper()
	cert, err := ca.ServerCert("api", []string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cert.TLSConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return "https://" + l.Addr().String()
}

func start(t *testing.T) *server {
	t.Helper()
	s := &server{ca: authority(t), now: time.Now()}
	der, err := protocol.Authority(s.ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	s.list = waiting.New(der, func() time.Time {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.now
	})
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any, err error) {
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(map[bool]int{true: http.StatusNotFound, false: http.StatusTooManyRequests}[errors.Is(err, waiting.ErrUnknown)])
			v = map[string]any{"error": map[string]string{"code": "x", "message": err.Error()}}
		}
		_ = json.NewEncoder(w).Encode(v)
	}
	token := func(r *http.Request) string { return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") }
	mux.HandleFunc("GET /v1/signin", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]string{"caPEM": string(s.ca.PEM())}, nil)
	})
	mux.HandleFunc("POST /v1/joins", func(w http.ResponseWriter, r *http.Request) {
		var in protocol.Request
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Validate() != nil {
			t.Errorf("request: %v, %v", err, in.Validate())
		}
		receipt, err := s.list.Add(in, "192.0.2.1")
		answer(w, receipt, err)
	})
	mux.HandleFunc("PUT /v1/joins/{id}", func(w http.ResponseWriter, r *http.Request) {
		var in protocol.Reveal
		_ = json.NewDecoder(r.Body).Decode(&in)
		answer(w, protocol.Status{}, s.list.Reveal(r.PathValue("id"), token(r), in.Nonce))
	})
	mux.HandleFunc("GET /v1/joins/{id}", func(w http.ResponseWriter, r *http.Request) {
		status, err := s.list.Status(r.PathValue("id"), token(r))
		answer(w, status, err)
	})
	s.url = serve(t, s.ca, mux)
	return s
}

// device runs one that asks; codes are what its screen shows, one after another.
func device(t *testing.T, url string, change func(*join.Config)) (codes <-chan join.Notice, ended <-chan error, dir string) {
	t.Helper()
	dir = t.TempDir()
	shown, end := make(chan join.Notice, 4), make(chan error, 1)
	cfg := join.Config{
		Server: url, DeviceID: "pi", MachineID: strings.Repeat("ab", 16), Labels: map[string]string{"site": "lyon"},
		Keys: devicekey.Store{Dir: dir, Owner: secretfile.Owner{UID: os.Getuid(), GID: os.Getgid()}},
		Show: func(n join.Notice) { shown <- n }, Log: slog.New(slog.DiscardHandler), Poll: 5 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		end <- join.Run(ctx, cfg)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return shown, end, dir
}

func (s *server) grant() protocol.Grant {
	return protocol.Grant{NATSURLs: []string{"tls://127.0.0.1:4222"}, CAPEM: string(s.ca.PEM()), Issuer: "https://127.0.0.1:8443", ProjectID: "7",
		IssuerCAPEM: string(s.ca.PEM()), UserID: "11", KeyID: "22"}
}

func wait[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("no " + what)
		panic("unreachable")
	}
}

func TestApproved(t *testing.T) {
	s := start(t)
	known, err := trust.Read(s.ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*join.Config){
		"by the code":        nil,
		"with a fingerprint": func(c *join.Config) { c.Fingerprint = known.Fingerprint },
		"with the authority": func(c *join.Config) { c.CAPEM = s.ca.PEM() },
	} {
		t.Run(name, func(t *testing.T) {
			codes, ended, dir := device(t, s.url, change)
			notice := wait(t, "code", codes)
			if notice.DeviceID != "pi" || notice.Fingerprint != known.Fingerprint {
				t.Errorf("shows %+v", notice)
			}
			entry, err := s.list.Find("pi", notice.Code)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.list.Approve(entry.Receipt.ID, s.grant()); err != nil {
				t.Fatal(err)
			}
			if err := wait(t, "end", ended); err != nil {
				t.Fatal(err)
			}
			key, err := keyfile.Read(filepath.Join(dir, "identity.json"))
			if err != nil || key.UserID != "11" || key.KeyID != "22" {
				t.Fatalf("identity %v, %v", key, err)
			}
			public, err := keyfile.PublicPEM(&key.Private.PublicKey)
			if err != nil || public != entry.IdentityKey {
				t.Errorf("another key was approved than the device has (%v)", err)
			}
			data, err := os.ReadFile(filepath.Join(dir, "config.toml"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse(data, config.Default(1))
			if err != nil || c.DeviceID != "pi" || c.Credentials.Type != config.CredentialOIDC || c.Labels["site"] != "lyon" {
				t.Errorf("configuration %+v, %v", c, err)
			}
			for file, mode := range map[string]os.FileMode{"config.toml": 0o640, "ca.pem": 0o644, "signing-keys.json": 0o400, "identity.json": 0o400} {
				if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != mode {
					t.Errorf("%s: %v, %v", file, info, err)
				}
			}
		})
	}
}

func TestDenied(t *testing.T) {
	s := start(t)
	codes, ended, dir := device(t, s.url, nil)
	wait(t, "code", codes)
	s.list.Deny("pi")
	if err := wait(t, "end", ended); !errors.Is(err, join.ErrDenied) || hint.Code(err) != hint.CodeDeclined {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "config.toml")); err == nil {
		t.Error("became a device")
	}
}

// A request that expired, or that a restarted server forgot, is made anew.
func TestExpired(t *testing.T) {
	s := start(t)
	codes, ended, _ := device(t, s.url, nil)
	first := wait(t, "code", codes)
	s.mu.Lock()
	s.now = s.now.Add(waiting.Lifetime)
	s.mu.Unlock()
	second := wait(t, "second code", codes)
	if first.Code == second.Code {
		t.Error("the same code")
	}
	entry, err := s.list.Find("pi", second.Code)
	if err == nil {
		err = s.list.Approve(entry.Receipt.ID, s.grant())
	}
	if err == nil {
		err = wait(t, "end", ended)
	}
	if err != nil {
		t.Error(err)
	}
}

// Somebody in between, with an authority of its own, passes everything on. The
// code that the device shows then approves nothing at the server.
func TestSomebodyInBetween(t *testing.T) {
	s := start(t)
	ca := authority(t)
	inside := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool()}}}
	between := serve(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/signin" {
			_ = json.NewEncoder(w).Encode(map[string]string{"caPEM": string(ca.PEM())})
			return
		}
		body, _ := io.ReadAll(r.Body)
		out, err := http.NewRequestWithContext(r.Context(), r.Method, s.url+r.URL.Path, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		out.Header = r.Header.Clone()
		resp, err := inside.Do(out)
		if err != nil {
			return // the device has gone
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))

	codes, _, _ := device(t, between, nil)
	notice := wait(t, "code", codes)
	if len(s.list.Waiting()) != 1 {
		t.Fatal("nobody waits at the server")
	}
	if _, err := s.list.Find("pi", notice.Code); !errors.Is(err, waiting.ErrCode) {
		t.Errorf("the code approves: %v", err)
	}

	right, err := trust.Read(s.ca.PEM())
	if err != nil {
		t.Fatal(err)
	}
	_, ended, _ := device(t, between, func(c *join.Config) { c.Fingerprint = right.Fingerprint })
	if err := wait(t, "end", ended); hint.Code(err) != hint.CodeAuth || hint.Of(err) == "" {
		t.Errorf("with the right fingerprint: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s := start(t)
	_, ended, _ := device(t, "http://127.0.0.1:1", nil)
	if err := wait(t, "end", ended); err == nil {
		t.Error("asked in the clear")
	}
	_, ended, _ = device(t, "https://127.0.0.1:1", nil)
	if err := wait(t, "end", ended); hint.Code(err) != hint.CodeUnreachable {
		t.Errorf("nobody there: %v", err)
	}
	_, ended, _ = device(t, s.url, func(c *join.Config) {
		if _, err := c.Keys.Make(false); err != nil {
			t.Error(err)
		}
		if _, err := c.Keys.Bind("1", "2"); err != nil {
			t.Error(err)
		}
	})
	if err := wait(t, "end", ended); err == nil || !strings.Contains(err.Error(), "identity already") {
		t.Errorf("a device asked again: %v", err)
	}
}
