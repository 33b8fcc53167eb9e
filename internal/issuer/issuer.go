// Package issuer is the OpenID Connect issuer inside fleet-server: people sign
// in with device code or code + PKCE, machines with a key of their own
// (RFC 7523), and what a fleet needs of Zitadel's management API is served beside
// it, so that a real Zitadel takes its place by a change of URL. The protocol is
// github.com/zitadel/oidc's; this package owns what that asks for, the pages
// for people, and the management API. What is kept is in store.
package issuer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

// What a new fleet has; `fleetctl server setup-identity` makes the same names
// in a Zitadel.
const (
	ProjectName = "fleet"
	CLIAppName  = "fleetctl"
	// DashboardAppName is the web app: code + PKCE, without a secret.
	DashboardAppName = "dashboard"
	orgName          = "fleet"
	orgDomain        = "fleet.local"

	RoleAdmin    = "fleet-admin"
	RoleOperator = "fleet-operator"
	RoleViewer   = "fleet-viewer"
	RoleDevice   = "fleet-device"
)

// Lifetimes. An access token cannot be called back from those who check it by
// themselves, so people's are short; machines' are long enough that thousands of
// them do not ask all the time.
const (
	personToken    = 15 * time.Minute
	machineToken   = time.Hour
	refreshToken   = 30 * 24 * time.Hour // since it was last used
	idToken        = time.Hour
	codeLifetime   = time.Minute
	signInLifetime = 10 * time.Minute
	devicePoll     = 2 * time.Second
	maxPending     = 10_000 // device codes

	signingKeyAge  = 90 * 24 * time.Hour
	signingKeyKeep = machineToken + time.Hour // longer than any token lives
	sweepEvery     = 10 * time.Minute
)

// Config is what an issuer is started with.
type Config struct {
	Dir      string // of the database
	URL      string // the issuer, https://host:port without a path
	Listener net.Listener
	TLS      *tls.Config
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
	// MachineToken is how long a machine's access token lives, an hour at most;
	// 0 means an hour.
	MachineToken time.Duration
}

// Issuer is a running issuer.
type Issuer struct {
	Facts
	store  *store.Store
	server *http.Server
	cancel context.CancelFunc
	done   chan struct{}
}

// Facts is what others have to know of an issuer.
type Facts struct {
	URL         string
	OrgID       string
	ProjectID   string
	CLIClientID string
	// DashboardClientID is that of the dashboard; see SetDashboard.
	DashboardClientID string

	// AdminPasswordFile has the first administrator's password; "" when that
	// was changed or the user removed.
	AdminPasswordFile string
	// AdminPassword is set by the start that made it, and by no other.
	AdminPassword string
}

// Start opens the database and serves until Shutdown.
func Start(ctx context.Context, cfg Config) (*Issuer, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MachineToken <= 0 || cfg.MachineToken > machineToken {
		cfg.MachineToken = machineToken
	}
	db, err := store.Open(ctx, cfg.Dir, cfg.Now)
	if err != nil {
		return nil, err
	}
	i := &Issuer{store: db, done: make(chan struct{})}
	handler, err := i.prepare(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	i.server = &http.Server{
		Handler:           handler,
		TLSConfig:         cfg.TLS,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := i.server.ServeTLS(cfg.Listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.Error("issuer stopped", "op", "serve issuer", "error", err)
		}
	}()
	return i, nil
}

// Shutdown lets requests end and closes the database.
func (i *Issuer) Shutdown(ctx context.Context) error {
	err := i.server.Shutdown(ctx)
	i.cancel()
	<-i.done
	return errors.Join(err, i.store.Close())
}

func (i *Issuer) prepare(ctx context.Context, cfg Config) (http.Handler, error) {
	facts, err := provision(ctx, i.store, cfg)
	if err != nil {
		return nil, err
	}
	i.Facts = facts
	keys, err := openKeys(ctx, i.store)
	if err != nil {
		return nil, err
	}
	secret, err := i.store.Setting(ctx, "form_key", store.Secret)
	if err != nil {
		return nil, err
	}
	storage := &storage{store: i.store, keys: keys, facts: facts, now: cfg.Now, machineToken: cfg.MachineToken, log: cfg.Log}
	provider, err := newProvider(cfg.URL, storage)
	if err != nil {
		return nil, err
	}
	limits := newLimits(cfg.Now)
	guard := &guard{store: i.store, limits: limits, hashing: make(chan struct{}, hashesAtOnce), log: cfg.Log}
	pages := &pages{storage: storage, guard: guard, formKey: []byte(secret), issuer: cfg.URL}
	manage := &management{storage: storage, provider: provider, issuer: cfg.URL, log: cfg.Log}

	sweeping, cancel := context.WithCancel(context.WithoutCancel(ctx))
	i.cancel = cancel
	go func() {
		defer close(i.done)
		sweep(sweeping, i.store, keys, limits, cfg.Log)
	}()

	mux := http.NewServeMux()
	pages.register(mux)
	manage.register(mux)
	mux.Handle("/", limits.begin(pages.bindCallback(op.CreateRouter(provider))))
	return http.MaxBytesHandler(mux, 64<<10), nil
}

// sweep does what time brings: new signing keys, and removing what has expired.
func sweep(ctx context.Context, db *store.Store, keys *keyring, limits *limits, log *slog.Logger) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		limits.forget()
		if err := errors.Join(db.Sweep(ctx), keys.rotate(ctx, signingKeyAge)); err != nil && ctx.Err() == nil {
			log.Error("not tidied up", "op", "sweep issuer", "error", err)
		}
	}
}

// provider is op's with a little more patience for machines' clocks.
type provider struct {
	*op.Provider
	url     string
	storage *storage
}

func newProvider(url string, s *storage) (*provider, error) {
	p, err := op.NewProvider(&op.Config{
		CodeMethodS256:        true,
		GrantTypeRefreshToken: true,
		SupportedScopes:       []string{"openid", "profile", "email", "offline_access", scopeRoles},
		SupportedClaims:       []string{"sub", "aud", "exp", "iat", "iss", "auth_time", "preferred_username", "name", claimRoles},
		DeviceAuthorization: op.DeviceAuthorizationConfig{
			Lifetime:     signInLifetime,
			PollInterval: devicePoll,
			UserFormPath: devicePath,
			UserCode:     op.UserCodeBase20,
		},
	}, s, op.StaticIssuer(url),
		op.WithCORSOptions(nil), // no page of another origin has business here
		op.WithAccessTokenVerifierOpts(op.WithSupportedAccessTokenSigningAlgorithms("RS256")),
	)
	if err != nil {
		return nil, fmt.Errorf("set up issuer %s: %w", url, err)
	}
	return &provider{Provider: p, url: url, storage: s}, nil
}

// assertionSkew is how far a machine's clock may be ahead; op's one second is
// less than what NTP leaves on a busy device.
const assertionSkew = 30 * time.Second

// JWTProfileVerifier overrides op's.
func (p *provider) JWTProfileVerifier(context.Context) *op.JWTProfileVerifier {
	return op.NewJWTProfileVerifier(p.storage, p.url, time.Hour, assertionSkew)
}
