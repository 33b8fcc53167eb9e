package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// kubeClient reaches the fleet's objects in the Kubernetes API. Nothing is
// sent before its first use.
func kubeClient(f *Factory) (client.Client, error) {
	config, err := f.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // a person does not type fast enough to need a limit
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register API types: %w", err)
	}
	// The client's library wants a logger of its own, and complains at length
	// without one.
	log.SetLogger(logr.FromSlogHandler(f.Log().Handler()))
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, explainKube(fmt.Errorf("reach the Kubernetes API at %s: %w", config.Host, err))
	}
	return c, nil
}

// explainKube adds the exit code and the next thing to type to an error of the
// Kubernetes API.
func explainKube(err error) error {
	var netErr net.Error
	var urlErr *url.Error
	switch {
	case err == nil || hint.Of(err) != "":
		return err
	case errors.Is(err, context.Canceled):
		return hint.WithCode(err, hint.CodeInterrupted)
	case apierrors.IsUnauthorized(err):
		return hint.WithCode(hint.Wrap(err, "the kubeconfig's identity is not accepted: check --kubeconfig"), hint.CodeAuth)
	case apierrors.IsForbidden(err):
		return hint.WithCode(hint.Wrap(err, "this identity may not do that: ask for a role that allows it"), hint.CodeAuth)
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return hint.WithCode(hint.Wrap(err, "correct what is named above and try again"), hint.CodeUsage)
	case meta.IsNoMatchError(err), runtime.IsNotRegisteredError(err):
		return hint.Wrap(err, "this API server has no fleet types: is it a fleet's, and is the operator running? check --kubeconfig")
	case errors.As(err, &netErr), errors.As(err, &urlErr), os.IsTimeout(err), apierrors.IsServiceUnavailable(err):
		return hint.WithCode(hint.Wrap(err, "is fleet-server running? start it with: fleet-server all"), hint.CodeUnreachable)
	}
	return err
}
