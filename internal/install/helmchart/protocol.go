package helmchart

import (
	"time"

	"github.com/nationtech/fleetctl/internal/install"
)

// Program is what fleetctl runs for charts.
const Program = "fleetctl-helm"

// Operation is what the program is asked to do.
type Operation string

// The operations: those of install.Charts, and one that needs no cluster.
const (
	OperationCheck    Operation = "check"
	OperationDeployed Operation = "deployed"
	OperationApply    Operation = "apply"
	OperationRemove   Operation = "remove"
	OperationRender   Operation = "render"
)

// Request is what the program reads from its standard input, whose end ends what
// it does. The access to the
// cluster is in it, and therefore in no argument and in no file.
type Request struct {
	Operation  Operation       `json:"operation"`
	Kubeconfig []byte          `json:"kubeconfig,omitempty"`
	Dir        string          `json:"dir,omitempty"` // of charts; empty: they are fetched
	Timeout    time.Duration   `json:"timeout,omitempty"`
	Chart      install.Chart   `json:"chart,omitzero"`
	Release    install.Release `json:"release,omitzero"`
}

// Answer is what it writes to its standard output.
type Answer struct {
	Error      string            `json:"error,omitempty"`
	Hint       string            `json:"hint,omitempty"`
	Unexpected bool              `json:"unexpected,omitempty"` // the error is install.ErrChartVersion
	Deployed   *install.Deployed `json:"deployed,omitempty"`
	Rendered   string            `json:"rendered,omitempty"`
}
