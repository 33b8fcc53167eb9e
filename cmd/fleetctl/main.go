// Command fleetctl is the operator's tool: VMs, onboarding, deployments.
package main

import (
	"os"

	"github.com/nationtech/fleetctl/internal/cli"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "dev"

func main() {
	os.Exit(cli.Main(version, os.Args[1:], cli.SystemStreams()))
}
