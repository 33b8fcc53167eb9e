// Package dashboard is the web pages of a fleet: what is there, what is wrong
// and why, live, and the few things that one wants to do about it. It holds no
// truth: it reads the Kubernetes API by watching, what only devices know
// through the HTTPS API, and does whatever it does through that API and
// through Kubernetes as the person who asked.
package dashboard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/dashboard/assets"
	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

// Config of a dashboard; everything but KubeShared is required.
type Config struct {
	Kube *rest.Config // may watch Devices and Deployments
	// KubeShared says that Kubernetes does not know people's tokens: what they do
	// there is then done with Kube, after their role was checked here.
	KubeShared bool
	Sessions   *session.Manager
	Audit      AuditLog
	ServerURL  string // of the HTTPS API, as people type it
	Version    string
	Log        *slog.Logger
}

// Dashboard serves the pages. It is of use once Run runs.
type Dashboard struct {
	cfg    Config
	assets *assets.Set
	store  *fleet.Store
	kubeAs func(*session.Session) (client.Client, error)
	marks  []byte // key of what stands for hidden values
	hub    *hub
	api    *apiclient.Client
	probes *prober
	synced chan struct{}

	stopping context.Context // ends when the server shuts down
	stop     context.CancelFunc
}

// New prepares a dashboard; nothing is fetched before Run.
func New(cfg Config) (*Dashboard, error) {
	if cfg.Kube == nil {
		return nil, errors.New("dashboard: no Kubernetes API to watch")
	}
	d, err := newDashboard(cfg, fleet.NewStore())
	if err != nil {
		return nil, err
	}
	k, err := newKube(cfg.Kube, cfg.KubeShared)
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	d.kubeAs = k.as
	return d, nil
}

func newDashboard(cfg Config, store *fleet.Store) (*Dashboard, error) {
	if cfg.Sessions == nil || cfg.Log == nil {
		return nil, errors.New("dashboard: sessions and a logger are needed")
	}
	set, err := assets.Load()
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	d := &Dashboard{cfg: cfg, assets: set, store: store, hub: newHub(store, cfg.Log), synced: make(chan struct{}), marks: []byte(rand.Text())}
	d.stopping, d.stop = context.WithCancel(context.Background())
	return d, nil
}

// Run keeps the picture of the fleet current until ctx ends.
func (d *Dashboard) Run(ctx context.Context) error {
	return d.store.Watch(ctx, d.cfg.Kube, sync.OnceFunc(func() { close(d.synced) }))
}

// Stop ends every event stream, so that the server can shut down.
func (d *Dashboard) Stop() { d.stop() }

// Handler serves the pages; api is the HTTPS API of this process, through
// which they act.
func (d *Dashboard) Handler(api http.Handler) http.Handler {
	d.api = apiclient.NewInProcess(api, tokenOf, addressOf)
	d.probes = &prober{ask: d.api.Probe}
	mux := http.NewServeMux()
	mux.Handle("GET "+assets.Prefix, d.assets)
	mux.HandleFunc("GET /auth/signin", d.signIn)
	mux.HandleFunc("GET "+session.CallbackPath, d.callback)
	mux.HandleFunc("GET "+SignedOutPath, d.signedOut)
	mux.Handle("POST /auth/signout", d.guarded(d.signOut))
	mux.Handle("GET /auth/check", d.guarded(func(w http.ResponseWriter, _ *http.Request, _ *session.Session) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}))
	for path, open := range map[string]opener{
		"/{$}":                            d.overview,
		"/devices":                        d.devices,
		"/devices/{id}":                   d.device,
		"/deployments":                    d.deployments,
		"/deployments/{namespace}/{name}": d.deployment,
	} {
		mux.Handle("GET "+path, d.page(role.Viewer, open))
		mux.Handle("GET /live"+path, d.stream(role.Viewer, open))
	}
	mux.Handle("GET /joins", d.page(role.Admin, d.joins))
	mux.Handle("GET /live/joins", d.stream(role.Admin, d.joins))
	mux.Handle("GET /audit", d.page(role.Admin, d.auditLog))
	mux.Handle("GET /live/devices/{id}/logs", d.needs(role.Operator, d.followLogs))
	mux.Handle("GET /devices/{id}/logs.txt", d.needs(role.Operator, d.logsText))
	d.actions(mux)
	d.exports(mux)
	mux.Handle("GET /map.json", d.needs(role.Viewer, d.mapNames))
	mux.Handle("/", d.guarded(func(http.ResponseWriter, *http.Request, *session.Session) error { return errNoPage }))
	return d.protected(mux)
}
