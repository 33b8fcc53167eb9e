package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	genericserver "k8s.io/kubernetes/pkg/controlplane/apiserver/samples/generic/server"
)

// drainTimeout is how long requests in flight may take once the API stops.
const drainTimeout = 5 * time.Second

// apiProcess is the running API server, as one would see a child process.
type apiProcess struct {
	cancel   context.CancelFunc
	stopping atomic.Bool
	gaveUp   atomic.Pointer[error]
	done     chan struct{}
	err      error // of Run; valid once done is closed
}

// startAPI builds the chain of API servers (custom resources, built-in
// resources, aggregation) and runs it. It owns cfg.Listener from the call on.
func startAPI(cfg Config, creds *credentials, endpoint string, logs *upstreamLogs) (_ *apiProcess, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			cancel()
			_ = cfg.Listener.Close()
		}
	}()
	opts, err := serverOptions(ctx, cfg, creds, endpoint)
	if err != nil {
		return nil, err
	}
	config, err := genericserver.NewConfig(opts)
	if err != nil {
		return nil, err
	}
	// With more than one server each new custom resource is held back for 5 s,
	// until the others have seen it. There are no others.
	config.APIExtensions.ExtraConfig.MasterCount = 1
	for _, generic := range []*genericConfig{
		config.ControlPlane.Generic, &config.APIExtensions.GenericConfig.Config, &config.Aggregator.GenericConfig.Config,
	} {
		generic.EffectiveVersion = released(generic.EffectiveVersion)
	}
	completed, err := config.Complete()
	if err != nil {
		return nil, err
	}
	chain, err := genericserver.CreateServerChain(completed)
	if err != nil {
		return nil, err
	}
	chain.GenericAPIServer.ShutdownTimeout = drainTimeout
	prepared, err := chain.PrepareRun()
	if err != nil {
		return nil, err
	}

	p := &apiProcess{cancel: cancel, done: make(chan struct{})}
	tell := p.giveUp
	logs.onFatal.Store(&tell)
	go func() {
		defer close(p.done)
		p.err = prepared.Run(ctx)
	}()
	return p, nil
}

// waitReady waits until every readiness check passes.
func (p *apiProcess) waitReady(ctx context.Context, access *rest.Config) error {
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return fmt.Errorf("make a client for the Kubernetes API: %w", err)
	}
	const poll = 50 * time.Millisecond // there is no event to wait for across HTTP
	tick := time.NewTicker(poll)
	defer tick.Stop()
	last := errors.New("no answer to readiness checks")
	for {
		result := client.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "").Do(ctx)
		body, err := result.Raw()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = readiness(body, err)
		}
		select {
		case <-p.done:
			return fmt.Errorf("API server ended while starting: %w", p.unexpectedErr())
		case <-ctx.Done():
			return fmt.Errorf("%w, %w", last, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// giveUp ends the API server for a reason found outside of Run.
func (p *apiProcess) giveUp(why error) {
	p.gaveUp.CompareAndSwap(nil, &why)
	p.cancel()
}

// unexpectedErr is why Run ended when nobody asked it to, else nil.
func (p *apiProcess) unexpectedErr() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.stopping.Load() {
		return nil
	}
	if why := p.gaveUp.Load(); why != nil {
		return *why
	}
	if p.err == nil {
		return errors.New("ended by itself")
	}
	return p.err
}

// stop ends the API server and waits for it, at most until ctx ends.
func (p *apiProcess) stop(ctx context.Context) error {
	p.stopping.Store(true)
	p.cancel()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("still answering requests: %w", context.Cause(ctx))
	}
}
