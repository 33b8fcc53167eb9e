// Package issuertest runs the embedded issuer for other packages' tests, with
// machine users that it makes itself. It is no part of a program.
package issuertest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/internal/issuer/store"
	"github.com/nationtech/fleetctl/internal/keyfile"
	"github.com/nationtech/fleetctl/internal/pki"
)

// Issuer is a real one, on a port that it keeps when it restarts.
type Issuer struct {
	*issuer.Issuer
	CA    *pki.CA
	Clock Clock

	t       testing.TB
	options Options
	dir     string
	address string
	up      bool

	mu sync.Mutex
	db *store.Store // opened when it is needed
}

// Clock is the issuer's.
type Clock struct {
	mu     sync.Mutex
	offset time.Duration
}

// Now runs on from where Advance moved it.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// Options are what a test may want otherwise.
type Options struct {
	Host         string        // the address that it listens on; "" means loopback
	MachineToken time.Duration // see issuer.Config
	// Name is what it calls itself, as if it were at https://NAME; "" means its
	// address. Whoever asks it by that name has to be led to Address.
	Name string
}

// Start starts an issuer on loopback; it ends with the test.
func Start(t testing.TB) *Issuer {
	t.Helper()
	return StartWith(t, Options{})
}

// StartWith is Start for who wants something otherwise.
func StartWith(t testing.TB, o Options) *Issuer {
	t.Helper()
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	i := &Issuer{t: t, options: o, dir: t.TempDir(), address: net.JoinHostPort(o.Host, "0")}
	if err := os.Chmod(i.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if i.CA, err = pki.Open(filepath.Join(i.dir, "pki")); err != nil {
		t.Fatal(err)
	}
	i.Resume()
	t.Cleanup(func() {
		i.Stop()
		if i.db != nil {
			_ = i.db.Close()
		}
	})
	return i
}

// store is the issuer's, beside the issuer: for what its API would not do.
func (i *Issuer) store() *store.Store {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.db == nil {
		i.db = must(store.Open(context.Background(), filepath.Join(i.dir, "issuer"), i.Clock.Now))(i.t)
	}
	return i.db
}

// Resume starts it again after Stop, where it was.
func (i *Issuer) Resume() {
	i.t.Helper()
	cert, err := i.CA.ServerCert("issuer", append([]string{i.options.Host}, slices.DeleteFunc([]string{i.options.Name}, func(n string) bool { return n == "" })...))
	if err != nil {
		i.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", i.address)
	// For a moment a connection of another test may go out from the port.
	for deadline := time.Now().Add(20 * time.Second); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		listener, err = net.Listen("tcp", i.address)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	i.address = listener.Addr().String()
	i.Issuer, err = issuer.Start(context.Background(), issuer.Config{
		Dir: filepath.Join(i.dir, "issuer"), URL: "https://" + cmp.Or(i.options.Name, i.address), Listener: listener,
		TLS: cert.TLSConfig(), Log: slog.New(slog.DiscardHandler), Now: i.Clock.Now, MachineToken: i.options.MachineToken,
	})
	if err != nil {
		i.t.Fatal(err)
	}
	i.up = true
}

// Address is where it listens.
func (i *Issuer) Address() string { return i.address }

// Stop makes it unreachable.
func (i *Issuer) Stop() {
	if !i.up {
		return
	}
	i.up = false
	if err := i.Shutdown(context.Background()); err != nil {
		i.t.Error(err)
	}
}

// HTTPClient trusts the issuer's CA, and finds the issuer whatever it calls itself.
func (i *Issuer) HTTPClient() *http.Client {
	c := credential.HTTPClient(i.CA.Pool())
	if through, ok := c.Transport.(*http.Transport); ok && i.options.Name != "" {
		through.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, i.address)
		}
	}
	return c
}

// Machine makes a machine user with roles in the fleet's project, and gives the
// path of its key file. What is there already gets a further key.
func (i *Issuer) Machine(name string, roles ...string) (keyFile string) {
	i.t.Helper()
	ctx := context.Background()
	db := i.store()
	var id string
	if user, err := db.UserByName(ctx, name); err == nil {
		id = user.ID
	} else {
		id = must(db.AddUser(ctx, store.User{Username: name, Kind: store.Machine, Name: name, Active: true}))(i.t)
		for _, role := range roles {
			_ = db.AddRole(ctx, i.ProjectID, store.Role{Key: role, Display: role}) // it may be there
		}
		if len(roles) > 0 {
			must(db.AddGrant(ctx, id, i.ProjectID, roles))(i.t)
		}
	}
	key := machineKey()
	public := must(x509.MarshalPKIXPublicKey(&key.PublicKey))(i.t)
	keyID := must(db.AddKey(ctx, id, public, time.Time{}))(i.t)
	data := must(keyfile.Key{KeyID: keyID, UserID: id, Private: key}.Encode())(i.t)
	keyFile = filepath.Join(i.dir, keyID+".json")
	if err := os.WriteFile(keyFile, data, 0o400); err != nil {
		i.t.Fatal(err)
	}
	return keyFile
}

// Token mints one for a machine with these roles, as the machine would.
func (i *Issuer) Token(name string, roles ...string) string {
	i.t.Helper()
	return must(i.Source(i.Machine(name, roles...)).Credential(context.Background()))(i.t).Token.Reveal()
}

// Claims are those of a good token, to be spoilt and signed.
func (i *Issuer) Claims(name string, roles ...string) map[string]any {
	granted := map[string]any{}
	for _, r := range roles {
		granted[r] = map[string]string{i.OrgID: "fleet.local"}
	}
	now := time.Now()
	return map[string]any{
		"iss": i.URL, "sub": "4711", "aud": []string{i.ProjectID}, issuer.ClaimUsername: name, verify.DefaultRolesClaim: granted,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
}

// Sign signs claims, whatever they are, with the issuer's own key.
func (i *Issuer) Sign(claims map[string]any) string {
	i.t.Helper()
	return i.Signer()(claims)
}

// Signer is Sign with the key that the issuer has now, for many tokens.
func (i *Issuer) Signer() func(claims map[string]any) string {
	i.t.Helper()
	key, id := i.signingKey()
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id)))(i.t)
	return func(claims map[string]any) string {
		i.t.Helper()
		signed := must(signer.Sign(must(json.Marshal(claims))(i.t)))(i.t)
		return must(signed.CompactSerialize())(i.t)
	}
}

// Rotate gives it a new signing key, while it is stopped.
func (i *Issuer) Rotate() {
	i.t.Helper()
	der := must(x509.MarshalPKCS8PrivateKey(must(rsa.GenerateKey(rand.Reader, 2048))(i.t)))(i.t)
	must(i.store().SigningKeys(context.Background(), 0, time.Hour, func() (store.SigningKey, error) {
		return store.SigningKey{ID: store.NewID(), Private: der}, nil
	}))(i.t)
}

// PublicKey is what the issuer publishes, with its id.
func (i *Issuer) PublicKey() (*rsa.PublicKey, string) {
	i.t.Helper()
	key, id := i.signingKey()
	return &key.PublicKey, id
}

func (i *Issuer) signingKey() (*rsa.PrivateKey, string) {
	i.t.Helper()
	const forEver = 100 * 365 * 24 * time.Hour
	rows := must(i.store().SigningKeys(context.Background(), forEver, forEver, func() (store.SigningKey, error) {
		return store.SigningKey{}, errors.New("the issuer has no key")
	}))(i.t)
	return must(x509.ParsePKCS8PrivateKey(rows[0].Private))(i.t).(*rsa.PrivateKey), rows[0].ID
}

// Source gives tokens of a machine, by its key file.
func (i *Issuer) Source(keyFile string) *credential.OIDC {
	return credential.NewOIDC(credential.OIDCConfig{
		Issuer: i.URL, Project: i.ProjectID, File: keyFile, HTTPClient: i.HTTPClient(),
	})
}

// Verifier checks its tokens as the callout does, by the real clock. Fetches end
// with ctx.
func (i *Issuer) Verifier(ctx context.Context) *verify.Verifier {
	return verify.New(ctx, verify.Config{
		Issuer: i.URL, Audiences: []string{i.ProjectID}, IDClaim: issuer.ClaimUsername,
		HTTPClient: i.HTTPClient(), Leeway: 5 * time.Second,
	})
}

// machineKey is one for all machines: making them takes long, and whose key it
// is is said by its id.
var machineKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
