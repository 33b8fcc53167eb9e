package charts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
	"github.com/nationtech/fleetctl/internal/install/helmchart"
)

// Serve reads one request, does it, and writes the answer. When the input ends, so
// does what was asked for: whoever asked is gone, and somebody else may take over.
// Its error is that there was no request or no answer.
func Serve(ctx context.Context, in io.Reader, out, log io.Writer) error {
	var r helmchart.Request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in) // nothing follows but the end
		cancel()
	}()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})))
	answer, err := do(ctx, r)
	if err != nil {
		answer = helmchart.Answer{Error: err.Error(), Hint: hint.Of(err), Unexpected: errors.Is(err, install.ErrChartVersion)}
	}
	if err := json.NewEncoder(out).Encode(answer); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

func do(ctx context.Context, r helmchart.Request) (answer helmchart.Answer, err error) {
	c := &client{dir: r.Dir, timeout: r.Timeout}
	if len(r.Kubeconfig) > 0 {
		if c.config, err = clientcmd.RESTConfigFromKubeConfig(r.Kubeconfig); err != nil {
			return answer, fmt.Errorf("read the access to the cluster: %w", err)
		}
		c.config.QPS = -1 // one program, one release: nothing to share the API with
	}
	switch r.Operation {
	case helmchart.OperationCheck:
		_, err = c.load(r.Chart)
	case helmchart.OperationDeployed:
		answer.Deployed, err = c.deployed(r.Release.Namespace, r.Release.Name)
	case helmchart.OperationApply:
		err = c.apply(ctx, r.Release)
	case helmchart.OperationRemove:
		err = c.remove(r.Release.Namespace, r.Release.Name)
	case helmchart.OperationRender:
		answer.Rendered, err = c.render(ctx, r.Release)
	default:
		err = hint.New(fmt.Sprintf("unknown operation %q", r.Operation), "is it of the same version as fleetctl?")
	}
	return answer, err
}
