package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

type getDeploymentsOptions struct {
	name      string
	namespace string
	all       bool
	selector  string
}

func newGetDeploymentsCmd(f *Factory) *cobra.Command {
	o := &getDeploymentsOptions{}
	cmd := &cobra.Command{
		Use:     "deployments [NAME]",
		Aliases: []string{"deployment", "fleetdep"},
		Short:   "List deployments and how many devices run them",
		Example: `  fleetctl get deployments
  fleetctl get deployments --all-namespaces
  fleetctl get deployments hello --output json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.name = args[0]
			}
			return runGetDeployments(cmd.Context(), f, o)
		},
		ValidArgsFunction: completeDeployments(f),
	}
	cmd.Flags().StringVarP(&o.namespace, "namespace", "n", "", "`namespace` (default: the kubeconfig's)")
	cmd.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "of every namespace")
	cmd.Flags().StringVarP(&o.selector, "selector", "l", "", "`labels` of the deployments, as kubectl takes them")
	cmd.MarkFlagsMutuallyExclusive("namespace", "all-namespaces")
	return cmd
}

type deploymentsResult struct {
	SchemaVersion int                `json:"schemaVersion"`
	Deployments   []deploymentResult `json:"deployments"`
}

type deploymentResult struct {
	Name      string             `json:"name"`
	Namespace string             `json:"namespace"`
	Ready     string             `json:"ready"` // "succeeded/matched"
	Reason    string             `json:"reason,omitempty"`
	Images    []string           `json:"images,omitempty"`
	Aggregate v1alpha1.Aggregate `json:"aggregate"`
	CreatedAt time.Time          `json:"createdAt"`
}

func newDeploymentResult(d *v1alpha1.Deployment) deploymentResult {
	_, reason := conditionOf(d.Status.Conditions, v1alpha1.ConditionAvailable)
	r := deploymentResult{
		Name: d.Name, Namespace: d.Namespace, Ready: d.Status.Ready, Reason: reason,
		Aggregate: d.Status.Aggregate, CreatedAt: d.CreationTimestamp.UTC(),
	}
	for _, s := range d.Spec.Score.Data.Services {
		r.Images = append(r.Images, s.Image)
	}
	return r
}

func runGetDeployments(ctx context.Context, f *Factory, o *getDeploymentsOptions) error {
	selector, err := parseLabelSelector(o.selector)
	if err != nil {
		return err
	}
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	namespace := o.namespace
	if namespace == "" && !o.all {
		namespace = f.Namespace()
	}
	list := &v1alpha1.DeploymentList{}
	if o.name != "" && !o.all {
		d, err := getDeployment(ctx, c, o.name, namespace)
		if err != nil {
			return err
		}
		list.Items = append(list.Items, *d)
	} else if err := c.List(ctx, list, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return explainKube(fmt.Errorf("list deployments: %w", err))
	}
	result := deploymentsResult{SchemaVersion: wire.SchemaVersion, Deployments: []deploymentResult{}}
	for i := range list.Items {
		if o.name == "" || list.Items[i].Name == o.name {
			result.Deployments = append(result.Deployments, newDeploymentResult(&list.Items[i]))
		}
	}
	if len(result.Deployments) == 0 && f.TextOutput() {
		fmt.Fprintln(f.Err, "no deployments; make one with: fleetctl deploy NAME --image IMAGE --all-devices")
		return nil
	}
	return f.Print(result, func(w io.Writer) error { return writeDeployments(w, result.Deployments, o.all, time.Now()) })
}

func getDeployment(ctx context.Context, c client.Client, name, namespace string) (*v1alpha1.Deployment, error) {
	if err := wire.ValidateDeploymentName(name); err != nil {
		return nil, usageError(err, "list what there is with: fleetctl get deployments --all-namespaces")
	}
	d := &v1alpha1.Deployment{}
	err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, d)
	if apierrors.IsNotFound(err) {
		return nil, hint.New(fmt.Sprintf("there is no deployment %s in namespace %s", name, namespace),
			"list what there is with: fleetctl get deployments --all-namespaces")
	}
	if err != nil {
		return nil, explainKube(fmt.Errorf("look for deployment %s: %w", name, err))
	}
	return d, nil
}

func writeDeployments(w io.Writer, deployments []deploymentResult, namespaces bool, now time.Time) error {
	header := []string{"NAME", "READY", "FAILED", "PENDING", "REASON", "IMAGES", "AGE"}
	if namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	var rows [][]string
	for _, d := range deployments {
		row := []string{
			d.Name, d.Ready, fmt.Sprint(d.Aggregate.Failed), fmt.Sprint(d.Aggregate.Pending),
			d.Reason, strings.Join(d.Images, " "), age(d.CreatedAt, now),
		}
		if namespaces {
			row = append([]string{d.Namespace}, row...)
		}
		rows = append(rows, row)
	}
	return table(w, header, rows)
}

// completeDeployments offers names of the namespace; without a server none.
func completeDeployments(f *Factory) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		namespace, _ := cmd.Flags().GetString("namespace")
		if namespace == "" {
			namespace = f.Namespace()
		}
		c, err := kubeClient(f)
		list := &v1alpha1.DeploymentList{}
		if len(args) > 0 || err != nil || c.List(cmd.Context(), list, client.InNamespace(namespace)) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, d := range list.Items {
			names = append(names, d.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
