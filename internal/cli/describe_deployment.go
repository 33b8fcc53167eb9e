package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func newDescribeDeploymentCmd(f *Factory) *cobra.Command {
	var namespace string
	cmd := &cobra.Command{
		Use:     "deployment NAME",
		Aliases: []string{"deployments", "fleetdep"},
		Short:   "Show a deployment, the devices it matches and what blocks it",
		Example: `  fleetctl describe deployment hello`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if namespace == "" {
				namespace = f.Namespace()
			}
			return runDescribeDeployment(cmd.Context(), f, args[0], namespace)
		},
		ValidArgsFunction: completeDeployments(f),
	}
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "`namespace` (default: the kubeconfig's)")
	return cmd
}

type describeDeploymentResult struct {
	SchemaVersion int                     `json:"schemaVersion"`
	Deployment    deploymentResult        `json:"deployment"`
	Selector      string                  `json:"selector"`
	ScoreType     string                  `json:"scoreType"`
	Services      []v1alpha1.Service      `json:"services,omitempty"`
	Rollout       *v1alpha1.RolloutStatus `json:"rollout,omitempty"`
	Conditions    []metav1.Condition      `json:"conditions,omitempty"`
	Devices       []deviceResult          `json:"devices"` // that match
}

func runDescribeDeployment(ctx context.Context, f *Factory, name, namespace string) error {
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	d, err := getDeployment(ctx, c, name, namespace)
	if err != nil {
		return err
	}
	selector, err := d.Spec.TargetSelector.Selector()
	if err != nil {
		return fmt.Errorf("deployment %s: target selector: %w", name, err)
	}
	devices := &v1alpha1.DeviceList{}
	if err := c.List(ctx, devices, client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return explainKube(fmt.Errorf("list devices: %w", err))
	}
	result := describeDeploymentResult{
		SchemaVersion: wire.SchemaVersion, Deployment: newDeploymentResult(d), Selector: selector.String(),
		ScoreType: d.Spec.Score.Type, Services: d.Spec.Score.Data.Services,
		Rollout: d.Status.Rollout, Conditions: d.Status.Conditions, Devices: []deviceResult{},
	}
	for i := range devices.Items {
		result.Devices = append(result.Devices, newDeviceResult(&devices.Items[i]))
	}
	return f.Print(result, func(w io.Writer) error { return writeDeployment(w, &result, time.Now()) })
}

func writeDeployment(w io.Writer, r *describeDeploymentResult, now time.Time) error {
	d, sum := r.Deployment, r.Deployment.Aggregate
	fmt.Fprintf(w, "Deployment %s in namespace %s\n", d.Name, d.Namespace)
	section(w, "", [][2]string{
		{"Devices", fmt.Sprintf("%d match: %d running, %d failed, %d pending", sum.MatchedDeviceCount, sum.Succeeded, sum.Failed, sum.Pending)},
		{"Selector", r.Selector},
		{"Type", r.ScoreType},
		{"Created", age(d.CreatedAt, now) + " ago"},
	})
	if e := sum.LastError; e != nil {
		section(w, "Last error", [][2]string{
			{"Device", e.DeviceID},
			{"Message", e.Message},
			{"Since", age(e.At.Time, now) + " ago"},
		})
	}
	for _, s := range r.Services {
		section(w, "Service "+s.Name, servicePairs(&s))
	}
	if s := r.Rollout; s != nil {
		fmt.Fprintf(w, "\nRollout of revision %d: %s\n", s.Revision, s.Phase)
		if err := writeRolloutDetails(w, s); err != nil {
			return err
		}
	}
	if err := writeConditions(w, r.Conditions, now); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nDevices\n")
	if len(r.Devices) == 0 {
		_, err := fmt.Fprintln(w, "  none has labels that match; see: fleetctl get devices")
		return err
	}
	var rows [][]string
	for _, dev := range r.Devices {
		rows = append(rows, []string{"  " + dev.DeviceID, dev.Ready, dev.Reason})
	}
	return table(w, []string{"  DEVICE", "READY", "REASON"}, rows)
}

// servicePairs shows a service. Values of environment variables are left out:
// they are often secret.
func servicePairs(s *v1alpha1.Service) [][2]string {
	var ports, env, volumes []string
	for _, p := range s.Ports {
		ports = append(ports, string(p))
	}
	for _, e := range s.Env {
		env = append(env, e.Name)
	}
	for _, v := range s.Volumes {
		mode := ""
		if v.ReadOnly {
			mode = ":ro"
		}
		volumes = append(volumes, string(v.HostPath)+":"+string(v.ContainerPath)+mode)
	}
	return [][2]string{
		{"Image", s.Image},
		{"Ports", strings.Join(ports, ", ")},
		{"Environment", strings.Join(env, ", ")},
		{"Volumes", strings.Join(volumes, ", ")},
		{"Restart", s.RestartPolicy},
	}
}
