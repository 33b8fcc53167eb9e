package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

type deployOptions struct {
	deploySpec
	rollout   rolloutFlags
	namespace string
	print     bool
	remove    bool
	yes       bool
	force     bool
	wait      bool
	timeout   time.Duration
}

func newDeployCmd(f *Factory) *cobra.Command {
	o := &deployOptions{}
	cmd := &cobra.Command{
		Use:   "deploy NAME [-- COMMAND...]",
		Short: "Say which container runs on which devices",
		Long: `Creates or updates a Deployment of one container on the devices that a selector
matches. Running it again with other flags replaces what it said before, but for
how changes are rolled out: that stays until it is said otherwise.

Flags for the container have the names that podman run and docker run have. What
follows -- are the arguments of its program, in place of the image's. Several
containers that belong together, and which waits for which, are for a file:
start from --print.`,
		Example: `  fleetctl deploy hello --image docker.io/library/nginx:1.29 --selector site=lyon --port 8080:80 --wait
  fleetctl deploy hello --image docker.io/library/nginx:1.29 --device pi-1 --device pi-2
  fleetctl deploy probe --image registry.example.com/probe:3 --all-devices --env LEVEL=info --volume /srv/probe:/data
  fleetctl deploy api --image registry.example.com/api:7 -l site=lyon -p 8080:80 --cpus 0.5 --memory 128Mi \
    --health-http 80/healthz --env-secret DB_PASSWORD=db/password --secret tls:/etc/tls --pull-secret registry
  fleetctl deploy meter --image registry.example.com/meter:2 --device pi-1 --host-device /dev/ttyUSB0 --user 1000 -- --rate 10s
  fleetctl deploy hello --image docker.io/library/nginx:1.29 --all-devices --batch 10% --auto-rollback
  fleetctl deploy hello --image docker.io/library/nginx:1.29 --all-devices --print > hello.yaml
  fleetctl deploy hello --delete`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args = args[:dash]
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name, o.container.command = args[0], args[1:]
			o.rollout.changed = cmd.Flags().Changed
			return runDeploy(cmd.Context(), f, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.image, "image", "", "container `image` to run")
	flags.StringArrayVarP(&o.selectors, "selector", "l", nil, "`labels` of the devices, as kubectl takes them: site=lyon, 'arch in (arm64,arm)', '!spare'; repeatable, all must hold")
	flags.StringArrayVar(&o.devices, "device", nil, "`id` of a device; repeatable")
	flags.BoolVar(&o.allDevices, "all-devices", false, "every device, those that come later too")
	flags.StringVarP(&o.namespace, "namespace", "n", "", "`namespace` of the Deployment (default: the kubeconfig's)")
	flags.BoolVar(&o.print, "print", false, "print the object as YAML and change nothing")
	flags.BoolVar(&o.remove, "delete", false, "delete the Deployment: its containers are removed")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask before deleting")
	flags.BoolVar(&o.force, "force-conflicts", false, "take over fields that were set by another tool")
	flags.BoolVar(&o.wait, "wait", false, "wait until every matching device runs it; with a rollout, until it is complete")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how `long` to wait")
	o.container.add(cmd)
	o.rollout.add(cmd)
	cmd.MarkFlagsMutuallyExclusive("print", "delete")
	cmd.MarkFlagsMutuallyExclusive("print", "wait")
	cmd.MarkFlagsMutuallyExclusive("image", "delete")
	return cmd
}

// deployResult is what scripts get.
type deployResult struct {
	SchemaVersion int    `json:"schemaVersion"`
	Name          string `json:"name"`
	Namespace     string `json:"namespace"`
	Action        string `json:"action"` // created, updated, unchanged, deleted, absent
	Generation    int64  `json:"generation,omitempty"`
	Ready         string `json:"ready,omitempty"` // as of the end of --wait
}

// What deploy did.
const (
	actionCreated   = "created"
	actionUpdated   = "updated"
	actionUnchanged = "unchanged"
	actionDeleted   = "deleted"
	actionAbsent    = "absent"
)

func runDeploy(ctx context.Context, f *Factory, o *deployOptions) error {
	if o.namespace == "" {
		o.namespace = f.Namespace()
	}
	if o.remove {
		if err := wire.ValidateDeploymentName(o.name); err != nil {
			return usageError(err, "list what there is with: fleetctl get deployments")
		}
		return runDeployDelete(ctx, f, o)
	}
	d, err := o.deployment(o.namespace)
	if err != nil {
		return err
	}
	if d.Spec.Rollout, err = o.rollout.over(nil); err != nil {
		return err
	}
	if o.print {
		return printManifest(f, d)
	}
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	if err := o.keepRollout(ctx, c, d); err != nil {
		return err
	}
	result, err := applyDeployment(ctx, c, d, o.force)
	if err != nil {
		return err
	}
	if o.wait {
		if result.Ready, err = awaitDeployed(ctx, f, c, d, o.timeout); err != nil {
			return err
		}
	}
	return f.Print(result, func(w io.Writer) error { return writeDeployResult(w, result) })
}

func writeDeployResult(w io.Writer, r *deployResult) error {
	line := fmt.Sprintf("deployment %s %s in namespace %s", r.Name, r.Action, r.Namespace)
	if r.Ready != "" {
		line += ", " + r.Ready + " running"
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// manifest gives the object as it is applied: no status, no empty metadata.
func manifest(d *v1alpha1.Deployment) (map[string]any, error) {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d)
	if err != nil {
		return nil, fmt.Errorf("encode deployment %s: %w", d.Name, err)
	}
	delete(m, "status")
	if meta, ok := m["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp")
	}
	return m, nil
}

func printManifest(f *Factory, d *v1alpha1.Deployment) error {
	m, err := manifest(d)
	if err != nil {
		return err
	}
	return f.Print(m, func(w io.Writer) error {
		data, err := yaml.Marshal(m)
		if err != nil {
			return fmt.Errorf("encode deployment %s: %w", d.Name, err)
		}
		_, err = w.Write(data)
		return err
	})
}

// applyDeployment applies d server-side and says what that changed.
func applyDeployment(ctx context.Context, c client.Client, d *v1alpha1.Deployment, force bool) (*deployResult, error) {
	before := &v1alpha1.Deployment{}
	err := c.Get(ctx, client.ObjectKeyFromObject(d), before)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, explainKube(fmt.Errorf("look for deployment %s: %w", d.Name, err))
	}
	m, err := manifest(d)
	if err != nil {
		return nil, err
	}
	after, err := serverSideApply(ctx, c, m, force)
	switch {
	case apierrors.IsConflict(err):
		return nil, hint.Wrap(fmt.Errorf("apply deployment %s: %w", d.Name, err),
			"another tool set these fields: add --force-conflicts to take them over")
	case apierrors.IsNotFound(err):
		return nil, hint.Wrap(fmt.Errorf("apply deployment %s: %w", d.Name, err),
			"make the namespace first: kubectl create namespace "+d.Namespace)
	case err != nil:
		return nil, explainKube(fmt.Errorf("apply deployment %s: %w", d.Name, err))
	}
	if before.DeletionTimestamp != nil {
		return nil, hint.New(fmt.Sprintf("deployment %s is being deleted", d.Name), "wait until it is gone, then try again")
	}
	result := &deployResult{SchemaVersion: wire.SchemaVersion, Name: d.Name, Namespace: d.Namespace, Action: actionUnchanged, Generation: after.GetGeneration()}
	switch {
	case before.UID == "":
		result.Action = actionCreated
	case before.Generation != after.GetGeneration():
		result.Action = actionUpdated
	}
	d.UID, d.Generation = after.GetUID(), after.GetGeneration()
	return result, nil
}

func runDeployDelete(ctx context.Context, f *Factory, o *deployOptions) error {
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: o.name, Namespace: o.namespace}}
	result := &deployResult{SchemaVersion: wire.SchemaVersion, Name: o.name, Namespace: o.namespace, Action: actionDeleted}
	switch err := c.Get(ctx, client.ObjectKeyFromObject(d), d); {
	case apierrors.IsNotFound(err):
		result.Action = actionAbsent
		return f.Print(result, func(w io.Writer) error { return writeDeployResult(w, result) })
	case err != nil:
		return explainKube(fmt.Errorf("look for deployment %s: %w", o.name, err))
	}
	if !o.yes {
		question := fmt.Sprintf("Delete deployment %s in namespace %s? It runs on %d devices.", d.Name, d.Namespace, d.Status.Aggregate.MatchedDeviceCount)
		if err := f.Confirm(ctx, question, "--yes"); err != nil {
			return err
		}
	}
	sameObject := client.Preconditions{UID: &d.UID}
	if err := c.Delete(ctx, d, sameObject); err != nil && !apierrors.IsNotFound(err) {
		return explainKube(fmt.Errorf("delete deployment %s: %w", o.name, err))
	}
	if o.wait {
		if err := awaitDeleted(ctx, c, d, o.timeout); err != nil {
			return err
		}
	}
	return f.Print(result, func(w io.Writer) error { return writeDeployResult(w, result) })
}
