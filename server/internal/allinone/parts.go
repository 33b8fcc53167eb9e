package allinone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/issuer"
	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/serverapi"
	"github.com/nationtech/fleetctl/internal/serverapi/waiting"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/signing/rotation"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/crd"
	"github.com/nationtech/fleetctl/server/internal/metrics"
	"github.com/nationtech/fleetctl/server/internal/ports"
	"github.com/nationtech/fleetctl/server/internal/supervise"
	"github.com/nationtech/fleetctl/server/kubeapi"
)

func (s *server) openNames(context.Context) (_ supervise.Part, err error) {
	if s.names, err = s.Config.names(); err != nil {
		return nil, err
	}
	s.ports, err = ports.Open(s.DataDir, s.ListenAddress)
	return nil, err
}

func (s *server) openKeys(context.Context) (_ supervise.Part, err error) {
	if s.ca, err = pki.Open(s.path("pki")); err != nil {
		return nil, err
	}
	if s.signer, err = signing.Open(s.path("signing")); err != nil {
		return nil, err
	}
	if s.fleetKey, err = callout.LoadFleetKey(s.path("pki", "fleet.key")); err != nil {
		return nil, err
	}
	authority, err := trust.Read(s.ca.PEM())
	if err != nil {
		return nil, err
	}
	s.endpoints = Endpoints{
		SchemaVersion: endpointsSchema,
		CAFile:        s.ca.Path(),
		CAFingerprint: authority.Fingerprint,
		LogFile:       s.Log.Path(),
		PID:           os.Getpid(),
	}
	return nil, nil
}

func (s *server) startKube(ctx context.Context) (supervise.Part, error) {
	cert, err := s.serverCert("kubernetes")
	if err != nil {
		return nil, err
	}
	listener, err := s.ports.Listen(s.kubeRequest())
	if err != nil {
		return nil, err
	}
	port := portOf(listener)
	s.kube, err = kubeapi.Start(ctx, kubeapi.Config{
		DataDir:  s.path("kube"),
		Listener: listener,
		URL:      endpointURL("https", s.local, port),
		CertFile: cert.CertFile,
		KeyFile:  cert.KeyFile,
		CAPEM:    s.ca.PEM(),
		Log:      s.Log.Logger,
		Authenticators: []apiserverv1.JWTAuthenticator{
			kubeapi.People(s.issuer.URL, s.ca.PEM(), s.issuer.ProjectID, verify.DefaultRolesClaim),
		},
	})
	if err != nil {
		return nil, err
	}
	s.endpoints.Kubeconfig = s.kube.KubeconfigPath()
	s.endpoints.KubernetesURL = endpointURL("https", s.public[0], port)
	return s.kube, nil
}

func (s *server) startBroker(ctx context.Context) (supervise.Part, error) {
	cert, err := s.serverCert("nats")
	if err != nil {
		return nil, err
	}
	port, err := s.ports.Reserve(s.natsRequest())
	if err != nil {
		return nil, err
	}
	s.broker, err = broker.Start(ctx, broker.Config{
		DataDir: s.path("nats"),
		Listen:  net.JoinHostPort(s.ListenAddress, strconv.Itoa(port)),
		TLS:     cert.TLSConfig(),
		Log:     s.Log.With("component", "nats"),
	})
	if err != nil {
		return nil, err
	}
	s.endpoints.NATSURL = endpointURL("tls", s.public[0], port)
	return supervise.Held(func(context.Context) error {
		s.broker.Close()
		return nil
	}), nil
}

func (s *server) startCallout(context.Context) (supervise.Part, error) {
	conn, err := s.broker.ConnectCallout()
	if err != nil {
		return nil, err
	}
	s.guard = presence.NewGuard(presence.DefaultLimits())
	cfg := callout.Config{
		Conn:         conn,
		DevicePrefix: issuer.DevicePrefix,
		Device:       s.registry.BySubject,
		Subject:      s.registry.Subject,
		Denied:       s.registry.Denied,
		Held:         s.guard.Held,
		Deciding:     s.broker.Deciding,
		Metrics:      s.metrics,
		Log:          s.Log.With("component", "callout"),
	}
	cfg.Issuer, cfg.XKey = s.broker.CalloutKeys()
	cfg.FleetKey, cfg.Passwords = s.fleetKey, s.takesPSK
	if s.AllowPSK {
		cfg.Log.Warn("devices may log in with a pre-shared key", "op", "start callout")
	}
	return lasting(func(ctx context.Context) error {
		cfg.Tokens = verify.New(ctx, verify.Config{
			Issuer:     s.issuer.URL,
			Audiences:  []string{s.issuer.ProjectID},
			IDClaim:    issuer.ClaimUsername,
			HTTPClient: s.issuerClient(),
			Leeway:     tokenLeeway,
		})
		_, err := callout.Start(ctx, cfg)
		return err
	})
}

// tokenLeeway is for a token that was made a moment ago by another's clock.
const tokenLeeway = 5 * time.Second

func (s *server) startPresence(context.Context) (supervise.Part, error) {
	conn, err := s.broker.ConnectPresence()
	if err != nil {
		return nil, err
	}
	return lasting(func(ctx context.Context) error {
		log := s.Log.With("component", "presence")
		s.presence, err = presence.Start(ctx, conn, log, presence.Options{Denied: s.registry.Denied})
		if err != nil {
			return err
		}
		go s.guard.Watch(ctx, conn, s.presence, log, s.recordFlood)
		return s.registry.Enforce(ctx, s.presence, log)
	})
}

// recordFlood puts on record that nobody but we threw a device out.
func (s *server) recordFlood(f presence.Flood) {
	_, err := s.audit.Append(audit.Record{
		Who: "fleet-server", Action: "hold device", Device: f.Device, From: f.Host,
		Outcome: fmt.Sprintf("disconnected, and kept out for %s: it %s", f.Pause, f.Reason),
	}, time.Now())
	if err != nil {
		s.Log.Error("a flood is not on record", "op", "flood", "device", f.Device, "error", err)
	}
}

func (s *server) installCRDs(ctx context.Context) (supervise.Part, error) {
	if err := crd.Install(ctx, s.kube.RESTConfig()); err != nil {
		return nil, err
	}
	return nil, s.kube.AwaitServed(ctx,
		v1alpha1.GroupVersion.WithResource("devices"), v1alpha1.GroupVersion.WithResource("deployments"),
		v1alpha1.GroupVersion.WithResource("deploymentrevisions"))
}

func (s *server) startOperator(ctx context.Context) (supervise.Part, error) {
	conn, err := s.broker.ConnectOperator()
	if err != nil {
		return nil, err
	}
	store, err := kv.Open(conn)
	if err != nil {
		return nil, err
	}
	s.operator, err = operator.New(s.kube.RESTConfig(), operator.Options{
		Store:      store,
		Signer:     s.signer,
		Log:        s.Log.With("component", "operator"),
		Links:      s.presence,
		Identities: s.issuer,
	})
	if err != nil {
		return nil, err
	}
	running := supervise.Loop(s.operator.Run)
	select {
	case <-s.operator.Ready():
		return running, nil
	case <-running.Done():
		return nil, running.Err()
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("its picture of the fleet is not complete: %w", context.Cause(ctx)), running.Stop(context.WithoutCancel(ctx)))
	}
}

// startRotation lets a rotation of the signing key go on where it was.
func (s *server) startRotation(context.Context) (supervise.Part, error) {
	s.rotation = rotation.New(rotation.Config{Signer: s.signer, Log: s.Log.With("component", "signing"),
		Fleet: serverapi.FleetKeys{Registry: s.registry, Presence: s.presence}})
	return supervise.Loop(s.rotation.Run), nil
}

func (s *server) startAPI(context.Context) (supervise.Part, error) {
	tokenFile := s.path("admin-token")
	auth, err := serverapi.LoadAdminToken(tokenFile)
	if err != nil {
		return nil, err
	}
	conn, err := s.broker.ConnectAPI()
	if err != nil {
		return nil, err
	}
	reports, err := kv.Open(conn)
	if err != nil {
		return nil, err
	}
	cert, err := s.serverCert("api")
	if err != nil {
		return nil, err
	}
	authority, err := join.Authority(s.ca.PEM())
	if err != nil {
		return nil, err
	}
	scrapeFile := s.path("metrics-token")
	scraper, err := serverapi.LoadScrapeToken(scrapeFile)
	if err != nil {
		return nil, err
	}
	log := s.Log.With("component", "api")
	api, err := serverapi.Start(serverapi.Config{
		Listener: s.apiListener,
		TLS:      cert.TLSConfig(),
		Auth:     s.apiAuth(auth),
		Audit:    s.audit,
		Registry: s.registry,
		Reports:  reports,
		Presence: s.presence,
		Commands: commands.NewSender(conn, s.signer),
		Ready:    s.ready,
		NATSURLs: s.natsURLs(),
		CAPEM:    s.ca.PEM(),
		Signing:  s.rotation,
		PSK:      s.psk,
		SignIn:   s.signIn(),
		Pages:    s.dashboard.Handler,
		Stopping: s.dashboard.Stop,
		Joins:    waiting.New(authority, time.Now),
		Accounts: s.deviceAccounts,
		Metrics:  s.metrics,
		Scrape:   metrics.Handler(s.metrics, log),
		Scraper:  scraper,
		Version:  s.Version,
		Log:      log,
	})
	if err != nil {
		return nil, err
	}
	s.endpoints.AdminTokenFile, s.endpoints.MetricsTokenFile = tokenFile, scrapeFile
	return supervise.Held(api.Shutdown), nil
}

// takesPSK says whether a device may have a pre-shared key: in a laboratory all
// may, else only those that a load test plays, which have no keys of their own.
func (s *server) takesPSK(device string) bool {
	return s.AllowPSK || strings.HasPrefix(device, wire.PlayedDevices)
}

// psk gives a device's pre-shared key; "" when it may have none.
func (s *server) psk(device string) string {
	if !s.takesPSK(device) {
		return ""
	}
	return callout.PSK(s.fleetKey, device)
}

// keepCerts renews the certificates of all listeners.
func (s *server) keepCerts(context.Context) (supervise.Part, error) {
	return supervise.Loop(func(ctx context.Context) error {
		var wg sync.WaitGroup
		for _, cert := range s.certs {
			wg.Go(func() { cert.Keep(ctx, s.Log.With("component", "pki")) })
		}
		wg.Wait()
		return ctx.Err()
	}), nil
}

// ready is for those who watch us over HTTPS.
func (s *server) ready(context.Context) error {
	select {
	case <-s.kube.Done():
		return errors.New("the Kubernetes API has ended")
	default:
	}
	if !s.broker.Ready() {
		return errors.New("NATS is not ready")
	}
	return nil
}

func (s *server) serverCert(name string) (*pki.ServerCert, error) {
	cert, err := s.ca.ServerCert(name, s.hosts)
	if err == nil {
		s.certs = append(s.certs, cert)
	}
	return cert, err
}

func (s *server) natsURLs() []string {
	var urls []string
	for _, host := range s.public {
		urls = append(urls, endpointURL("tls", host, s.broker.Port()))
	}
	return urls
}

func (s *server) path(elem ...string) string {
	return filepath.Join(append([]string{s.DataDir}, elem...)...)
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// lasting makes a part of what runs until the context it was started with ends.
func lasting(start func(context.Context) error) (supervise.Part, error) {
	ctx, cancel := context.WithCancel(context.Background())
	if err := start(ctx); err != nil {
		cancel()
		return nil, err
	}
	return supervise.Held(func(context.Context) error {
		cancel()
		return nil
	}), nil
}
