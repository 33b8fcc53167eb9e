package dashboard

import (
	"flag"
	"testing"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
)

var (
	previewAt          = flag.String("preview", "", "serve a played fleet at `host:port` until interrupted")
	previewDevices     = flag.Int("preview.devices", 10_000, "devices of the played fleet")
	previewDeployments = flag.Int("preview.deployments", 1_000, "deployments of the played fleet")
)

// TestPreview is for those who work on the pages:
//
//	go test ./internal/dashboard -run TestPreview -timeout 0 -preview 127.0.0.1:7443
//
// Sign in as ada, otto (operator) or vera (viewer).
func TestPreview(t *testing.T) {
	if *previewAt == "" {
		t.Skip("only with -preview")
	}
	var f *fixture
	f = start(t, *previewAt, playedAPI(func() *fleet.Snapshot { return f.store.Snapshot() }))
	play(f.store, *previewDevices, *previewDeployments)
	t.Logf("at %s, password %q", f.url, password)
	select {}
}
