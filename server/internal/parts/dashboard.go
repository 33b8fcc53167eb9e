package parts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/dashboard"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/serverapi"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/internal/serverapi/waiting"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/signing/rotation"
	"github.com/nationtech/fleetctl/server/internal/metrics"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// Dashboard is the configuration of the HTTPS API and the dashboard.
type Dashboard struct {
	Access
	Listen string // address of the API, such as ":8443"
	// CertFile and KeyFile are of a certificate. Without them the API speaks
	// plain HTTP, for where an ingress or a route ends TLS before it.
	CertFile, KeyFile string
	// SigningSecret, NAMESPACE/NAME, holds the keys that commands are signed
	// with. Instead of it, SigningDir is a directory with them, in which they
	// cannot be rotated from here.
	SigningSecret, SigningDir string
	AuditDir                  string // holds the audit log
	AdminTokenFile            string // a token that lets in whoever has it; empty: nobody
	FleetKeyFile              string // devices' passwords come from it; empty: there are none
	People                    People

	// What clients and devices are told.
	DeviceNATSURLs []string
	DeviceCAFile   string // of NATS, for devices; empty: their system's authorities count
	KubernetesURL  string
	// PublicURL is where people find the API and the pages, such as
	// https://fleet.example.com.
	PublicURL string
	// SessionKeyFile holds the key that the pages' cookies are encrypted with.
	SessionKeyFile string
}

// Validate reports all faults at once.
func (c *Dashboard) Validate() error {
	errs := append(c.faults(), c.People.faults()...)
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		errs = append(errs, fmt.Errorf("--listen %q is no address with a port, such as :8443", c.Listen))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key belong together"))
	}
	if (c.SigningDir == "") == (c.SigningSecret == "") {
		errs = append(errs, errors.New("one of --signing-secret and --signing-dir is needed"))
	}
	if c.AuditDir == "" {
		errs = append(errs, errors.New("--audit-dir is needed"))
	}
	if c.AdminTokenFile == "" && c.People.Issuer == "" {
		errs = append(errs, errors.New("nobody could sign in: --issuer or --admin-token is needed"))
	}
	if c.People.DashboardID != "" && (c.PublicURL == "" || c.SessionKeyFile == "" || c.People.Issuer == "") {
		errs = append(errs, errors.New("--dashboard-client-id needs --issuer, --public-url and --session-key"))
	}
	if len(c.DeviceNATSURLs) == 0 {
		errs = append(errs, errors.New("--device-nats-url is needed"))
	}
	return wrong("dashboard", errs)
}

// Run serves the API until ctx ends.
func (c *Dashboard) Run(ctx context.Context, ready func()) error {
	if err := c.Validate(); err != nil {
		return err
	}
	return run(ctx, "dashboard", &c.Access, ready, func(p *part) []step {
		d := &dashboardPart{part: p, cfg: c}
		return []step{{"keys", d.loadKeys}, {"signing key", d.openSigning}, {"audit log", d.openAudit}, {"device registry", d.follow}, {"issuer's keys", d.trust},
			{"NATS", d.connectAPI}, {"NATS for presence", d.connectPresence}, {"presence", d.watch},
			{"rotation of the signing key", d.rotate}, {"pages", d.preparePages}, {"HTTPS API", d.serve}}
	})
}

type dashboardPart struct {
	*part
	cfg          *Dashboard
	signer       *signing.Signer
	rotation     *rotation.Rotation
	fleetKey     []byte
	deviceCA     []byte
	issuerCA     []byte
	authority    []byte // the first certificate of it
	audit        *audit.Log
	devices      *registry.Registry
	auth         serverapi.Either
	tokens       *verify.Verifier
	pages        *dashboard.Dashboard
	conn, system *nats.Conn
	presence     *presence.Tracker
}

func (d *dashboardPart) loadKeys(context.Context) (_ supervise.Part, err error) {
	if d.fleetKey, err = readFleetKey(d.cfg.FleetKeyFile); err != nil {
		return nil, err
	}
	if d.cfg.DeviceCAFile != "" {
		if d.deviceCA, err = os.ReadFile(d.cfg.DeviceCAFile); err != nil {
			return nil, fmt.Errorf("read CA for devices: %w", err)
		}
		if d.authority, err = join.Authority(d.deviceCA); err != nil {
			return nil, err
		}
	}
	if d.cfg.People.CAFile != "" {
		if d.issuerCA, err = os.ReadFile(d.cfg.People.CAFile); err != nil {
			return nil, fmt.Errorf("read the issuer's CA: %w", err)
		}
	}
	if d.cfg.AdminTokenFile != "" {
		token, err := serverapi.ReadAdminToken(d.cfg.AdminTokenFile)
		if err != nil {
			return nil, err
		}
		d.auth = append(d.auth, token)
	}
	return nil, nil
}

func (d *dashboardPart) openAudit(context.Context) (_ supervise.Part, err error) {
	if d.audit, err = audit.Open(d.cfg.AuditDir); err != nil {
		return nil, err
	}
	d.status.add("audit log", d.audit.Usable)
	return supervise.Held(func(context.Context) error { return d.audit.Close() }), nil
}

func (d *dashboardPart) follow(ctx context.Context) (held supervise.Part, err error) {
	d.devices, held, err = d.registry(ctx)
	return held, err
}

func (d *dashboardPart) trust(context.Context) (supervise.Part, error) {
	if d.cfg.People.Issuer == "" {
		return nil, nil
	}
	var held supervise.Part
	var err error
	if d.tokens, held, err = d.cfg.People.verifier(d.cfg.People.ProjectID, ""); err != nil {
		return nil, err
	}
	d.auth = append(d.auth, serverapi.IssuedTokens{Verifier: d.tokens})
	return held, nil
}

func (d *dashboardPart) connectAPI(ctx context.Context) (held supervise.Part, err error) {
	d.conn, held, err = d.nats(ctx, accounts.RoleAPI)
	return held, err
}

func (d *dashboardPart) connectPresence(ctx context.Context) (held supervise.Part, err error) {
	d.system, held, err = d.nats(ctx, accounts.RolePresence)
	return held, err
}

func (d *dashboardPart) watch(context.Context) (supervise.Part, error) {
	log := d.Log.With("component", "presence")
	return lasting(func(ctx context.Context) (err error) {
		if d.presence, err = presence.Start(ctx, d.system, log, presence.Options{Denied: d.devices.Denied, Settle: registrySettles}); err != nil {
			return err
		}
		if err := d.metrics.Register(d.presence); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
		return d.devices.Enforce(ctx, d.presence, log)
	})
}

func (d *dashboardPart) serve(context.Context) (supervise.Part, error) {
	reports, err := kv.Open(d.conn)
	if err != nil {
		return nil, err
	}
	var tlsConfig *tls.Config
	if d.cfg.CertFile != "" {
		if tlsConfig, err = certificate(d.cfg.CertFile, d.cfg.KeyFile); err != nil {
			return nil, err
		}
		if err := metrics.Certificate(d.metrics, "api", func() (time.Time, error) { return ends(d.cfg.CertFile, d.cfg.KeyFile) }); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("tcp", d.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the HTTPS API: %w", err)
	}
	var psk func(string) string
	if d.fleetKey != nil {
		psk = func(device string) string { return callout.PSK(d.fleetKey, device) }
	}
	cfg := serverapi.Config{
		Listener: listener,
		TLS:      tlsConfig,
		Auth:     d.auth,
		Audit:    d.audit,
		Registry: d.devices,
		Reports:  reports,
		Presence: d.presence,
		Commands: commands.NewSender(d.conn, d.signer),
		Ready:    func(context.Context) error { return d.status.ready() },
		NATSURLs: d.cfg.DeviceNATSURLs,
		CAPEM:    d.deviceCA,
		Signing:  d.rotation,
		PSK:      psk,
		SignIn: api.SignIn{SchemaVersion: api.SchemaVersion, Issuer: d.cfg.People.Issuer, ClientID: d.cfg.People.ClientID,
			ProjectID: d.cfg.People.ProjectID, KubernetesURL: d.cfg.KubernetesURL, CAPEM: string(d.issuerCA)},
		Joins:    waiting.New(d.authority, time.Now),
		Accounts: d.accounts,
		Metrics:  d.metrics,
		Version:  d.Version,
		Log:      d.Log.With("component", "api"),
	}
	if d.pages != nil {
		cfg.Pages, cfg.Stopping = d.pages.Handler, d.pages.Stop
	}
	server, err := serverapi.Start(cfg)
	if err != nil {
		return nil, err
	}
	d.Log.Info("HTTPS API", "address", server.Addr().String(), "tls", tlsConfig != nil)
	return supervise.Held(server.Shutdown), nil
}

// accounts calls the issuer as the person who approves a device.
func (d *dashboardPart) accounts(token, org string) (serverapi.DeviceAccounts, error) {
	client, err := d.cfg.People.httpClient()
	if err != nil {
		return nil, err
	}
	api, err := zitadel.New(zitadel.Config{Issuer: d.cfg.People.Issuer, OrgID: org, HTTPClient: client,
		Token: func(context.Context) (zitadel.Token, error) { return zitadel.Token(token), nil }})
	return provision.Devices{Client: api, Project: d.cfg.People.ProjectID}, err
}

// certificate reads a certificate anew for each handshake, so that a renewed
// one counts at once: whoever renews it is outside of this process.
func certificate(certFile, keyFile string) (*tls.Config, error) {
	load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return loadPair(certFile, keyFile) }
	if _, err := load(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: load}, nil
}

func loadPair(certFile, keyFile string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	return &pair, nil
}

// ends says when the certificate does.
func ends(certFile, keyFile string) (time.Time, error) {
	pair, err := loadPair(certFile, keyFile)
	if err != nil {
		return time.Time{}, err
	}
	return pair.Leaf.NotAfter, nil
}
