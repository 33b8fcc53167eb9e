// Package helmchart makes, changes and removes releases of Helm charts by
// running fleetctl-helm, which speaks to the Helm SDK (module helm/). The SDK
// would make fleetctl two and a half times as large, and its dependencies would
// decide on those of the control plane: docs/decisions/0017-helm-beside-fleetctl.md.
package helmchart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nationtech/fleetctl/internal/beside"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
)

// stopDelay is what Helm gets to write down where it was when it is interrupted.
const stopDelay = 10 * time.Second

// Client implements install.Charts.
type Client struct {
	Config  *rest.Config  // of the cluster; not needed to render
	Dir     string        // of charts; empty: they are fetched
	Timeout time.Duration // of a chart's hooks, such as the job that makes a database
	Log     io.Writer     // hears warnings
}

var _ install.Charts = (*Client)(nil)

// Check implements install.Charts.
func (c *Client) Check(ctx context.Context, chart install.Chart) error {
	_, err := c.run(ctx, Request{Operation: OperationCheck, Chart: chart})
	return err
}

// Deployed implements install.Charts.
func (c *Client) Deployed(ctx context.Context, namespace, name string) (*install.Deployed, error) {
	answer, err := c.run(ctx, Request{Operation: OperationDeployed, Release: install.Release{Namespace: namespace, Name: name}})
	return answer.Deployed, err
}

// Apply implements install.Charts.
func (c *Client) Apply(ctx context.Context, r install.Release) error {
	_, err := c.run(ctx, Request{Operation: OperationApply, Release: r})
	return err
}

// Remove implements install.Charts.
func (c *Client) Remove(ctx context.Context, namespace, name string) error {
	_, err := c.run(ctx, Request{Operation: OperationRemove, Release: install.Release{Namespace: namespace, Name: name}})
	return err
}

// Render gives what a release would be made of, as YAML documents.
func (c *Client) Render(ctx context.Context, r install.Release) (string, error) {
	answer, err := c.run(ctx, Request{Operation: OperationRender, Release: r})
	return answer.Rendered, err
}

func (c *Client) run(ctx context.Context, request Request) (Answer, error) {
	program, err := beside.Find(Program)
	if err != nil {
		return Answer{}, hint.Wrap(fmt.Errorf("charts are installed with %s: %w", Program, err), "build it with make build, or install NATS yourself and name it with --nats-url")
	}
	if request.Dir = c.Dir; c.Dir != "" {
		if request.Dir, err = filepath.Abs(c.Dir); err != nil {
			return Answer{}, fmt.Errorf("find the directory of charts: %w", err)
		}
	}
	request.Timeout = c.Timeout
	if request.Operation != OperationCheck && request.Operation != OperationRender {
		if request.Kubeconfig, err = kubeconfig(c.Config); err != nil {
			return Answer{}, err
		}
	}
	input, err := json.Marshal(request)
	if err != nil {
		return Answer{}, fmt.Errorf("encode what %s is asked: %w", Program, err)
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, stopDelay
	var output, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &log
	if c.Log != nil {
		cmd.Stderr = io.MultiWriter(c.Log, &log)
	}
	// Its input stays open until it has ended: it stops when we are gone.
	in, err := cmd.StdinPipe()
	if err != nil {
		return Answer{}, fmt.Errorf("run %s: %w", Program, err)
	}
	ended := cmd.Start()
	if ended == nil {
		_, wrote := in.Write(input)
		ended = errors.Join(cmd.Wait(), wrote)
	}
	var answer Answer
	if err := json.Unmarshal(output.Bytes(), &answer); err != nil {
		if ctx.Err() != nil {
			return answer, ctx.Err()
		}
		return answer, hint.New(fmt.Sprintf("%s gave no answer (%v): %s", Program, ended, strings.TrimSpace(log.String())), "is it of the same version as fleetctl? It belongs beside it")
	}
	if answer.Error == "" {
		return answer, nil
	}
	err = errors.New(answer.Error)
	if answer.Unexpected {
		err = unexpected{err}
	}
	if answer.Hint != "" {
		err = hint.Wrap(err, answer.Hint)
	}
	return answer, err
}

// unexpected is an error that was an install.ErrChartVersion on the other side.
type unexpected struct{ error }

func (unexpected) Is(target error) bool { return target == install.ErrChartVersion }

// kubeconfig is an access to a cluster as a file, whatever it was found in.
func kubeconfig(config *rest.Config) ([]byte, error) {
	const name = "fleetctl"
	file := clientcmdapi.NewConfig()
	file.CurrentContext = name
	file.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	file.Clusters[name] = &clientcmdapi.Cluster{Server: config.Host + config.APIPath, TLSServerName: config.ServerName, InsecureSkipTLSVerify: config.Insecure,
		CertificateAuthority: config.CAFile, CertificateAuthorityData: config.CAData, DisableCompression: config.DisableCompression}
	file.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificate: config.CertFile, ClientCertificateData: config.CertData,
		ClientKey: config.KeyFile, ClientKeyData: config.KeyData, Token: config.BearerToken, TokenFile: config.BearerTokenFile,
		Username: config.Username, Password: config.Password, Exec: config.ExecProvider, AuthProvider: config.AuthProvider,
		Impersonate: config.Impersonate.UserName, ImpersonateUID: config.Impersonate.UID, ImpersonateGroups: config.Impersonate.Groups,
		ImpersonateUserExtra: config.Impersonate.Extra}
	data, err := clientcmd.Write(*file)
	if err != nil {
		return nil, fmt.Errorf("encode the access to the cluster: %w", err)
	}
	return data, nil
}
