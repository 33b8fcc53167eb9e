// Command fleet-server is the control plane of a fleet.
package main

import (
	"os"

	"github.com/nationtech/fleetctl/server/internal/cli"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "dev"

func main() {
	os.Exit(cli.Main(version, os.Args[1:], os.Stdout, os.Stderr))
}
