// Command fleet-agent is the control loop on a device. This package owns its
// command line and puts the parts together.
package main

import (
	"fmt"
	"os"

	"github.com/nationtech/fleetctl/internal/hint"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

func main() {
	err := command(os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet-agent:", err)
		if h := hint.Of(err); h != "" {
			fmt.Fprintln(os.Stderr, "hint:", h)
		}
	}
	os.Exit(hint.Code(err))
}
