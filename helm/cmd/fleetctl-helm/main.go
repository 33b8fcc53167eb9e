// Command fleetctl-helm installs, upgrades and removes Helm charts for fleetctl,
// which runs it: one request on its standard input, one answer on its standard
// output (internal/install/helmchart).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nationtech/fleetctl/helm/internal/charts"
)

func main() {
	// Who asked may be gone: what was begun is ended and written down all the same.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := charts.Serve(ctx, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\nhint: this program is run by fleetctl server install\n", err)
		os.Exit(1)
	}
}
