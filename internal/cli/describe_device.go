package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func newDescribeDeviceCmd(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:     "device NAME",
		Aliases: []string{"devices", "fleetdev"},
		Short:   "Show a device, its inventory, and what should run on it and does",
		Long: `Shows what Kubernetes has of a device and what should run on it. What it reports
of each service is asked of fleet-server; where that is not possible it says why.`,
		Example: `  fleetctl describe device pi-1`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runDescribeDevice(cmd.Context(), f, args[0])
		},
		ValidArgsFunction: completeDevices(f),
	}
}

type describeDeviceResult struct {
	SchemaVersion int                `json:"schemaVersion"`
	Device        deviceResult       `json:"device"`
	Conditions    []metav1.Condition `json:"conditions,omitempty"`
	Deployments   []deploymentResult `json:"deployments"` // that match the device
	// State is what the device reported last, StateUnknown why that could not
	// be asked. Both are empty where it has reported nothing.
	State        *wire.DeviceState `json:"state,omitempty"`
	StateUnknown string            `json:"stateUnknown,omitempty"`
}

func runDescribeDevice(ctx context.Context, f *Factory, name string) error {
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	d, err := getDevice(ctx, c, name)
	if err != nil {
		return err
	}
	deployments, err := deploymentsFor(ctx, c, d.Labels)
	if err != nil {
		return err
	}
	result := describeDeviceResult{
		SchemaVersion: wire.SchemaVersion, Device: newDeviceResult(d),
		Conditions: d.Status.Conditions, Deployments: deployments,
	}
	result.State, err = reported(ctx, f, name)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		result.StateUnknown = err.Error()
	}
	return f.Print(result, func(w io.Writer) error { return writeDevice(w, &result, time.Now()) })
}

// reported asks the server what the device said last; nil when it said nothing.
func reported(ctx context.Context, f *Factory, device string) (*wire.DeviceState, error) {
	if f.global.kubeconfig != "" && !f.chose() {
		return nil, errors.New("--kubeconfig does not say which fleet-server it is: add --context or --server-dir")
	}
	server, err := f.API()
	if err != nil {
		return nil, err
	}
	known, err := server.Device(ctx, device)
	if apiclient.Code(err) == api.CodeNotFound {
		return nil, nil
	}
	return known.State, err
}

// deploymentsFor lists the Deployments whose selector matches the labels.
func deploymentsFor(ctx context.Context, c client.Client, of map[string]string) ([]deploymentResult, error) {
	list := &v1alpha1.DeploymentList{}
	if err := c.List(ctx, list); err != nil {
		return nil, explainKube(fmt.Errorf("list deployments: %w", err))
	}
	matching := []deploymentResult{}
	for i := range list.Items {
		d := &list.Items[i]
		selector, err := d.Spec.TargetSelector.Selector()
		if err == nil && selector.Matches(labels.Set(of)) {
			matching = append(matching, newDeploymentResult(d))
		}
	}
	return sortedByName(matching, func(d deploymentResult) string { return d.Name }), nil
}

func writeDevice(w io.Writer, r *describeDeviceResult, now time.Time) error {
	d, inv := r.Device, r.Device.Inventory
	heartbeat := cmp.Or(ago(d.LastHeartbeat, now), "never")
	fmt.Fprintf(w, "Device %s\n", d.DeviceID)
	section(w, "", [][2]string{
		{"In the way", d.InTheWay},
		{"Labels", joinLabels(d.Labels)},
		{"Heartbeat", heartbeat},
		{"Enrolled", ago(d.Enrolled, now)},
		{"Revoked", ago(d.Revoked, now)},
		{"Machine", d.MachineID},
	})
	section(w, "Inventory", [][2]string{
		{"Hostname", inv.Hostname},
		{"Model", inv.Model},
		{"Architecture", inv.Architecture},
		{"OS", inv.OS},
		{"Kernel", inv.Kernel},
		{"CPUs", count(inv.CPUs)},
		{"Memory", mebibytes(inv.MemoryBytes)},
		{"Disk", mebibytes(inv.DiskBytes)},
		{"Agent", inv.AgentVersion},
		{"Podman", inv.PodmanVersion},
	})
	if err := writeConditions(w, r.Conditions, now); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nDeployments\n")
	if len(r.Deployments) == 0 {
		fmt.Fprintln(w, "  none matches its labels")
		return writeReported(w, r, now)
	}
	var rows [][]string
	for _, dep := range r.Deployments {
		problem := ""
		if e := dep.Aggregate.LastError; e != nil && e.DeviceID == d.DeviceID {
			problem = e.Message
		}
		rows = append(rows, []string{"  " + dep.Namespace, dep.Name, dep.Ready, problem})
	}
	if err := table(w, []string{"  NAMESPACE", "NAME", "READY", "ERROR HERE"}, rows); err != nil {
		return err
	}
	return writeReported(w, r, now)
}

// writeReported shows what the device says that it runs.
func writeReported(w io.Writer, r *describeDeviceResult, now time.Time) error {
	fmt.Fprintf(w, "\nReported by the device\n")
	switch {
	case r.StateUnknown != "":
		_, err := fmt.Fprintln(w, "  not known:", printable(r.StateUnknown))
		return err
	case r.State == nil:
		_, err := fmt.Fprintln(w, "  nothing yet")
		return err
	}
	for _, problem := range append([]string{r.State.Error}, r.State.Warnings...) {
		if problem != "" {
			fmt.Fprintf(w, "  %s\n", printable(problem))
		}
	}
	var rows [][]string
	for _, d := range r.State.Deployments {
		if len(d.Services) == 0 {
			rows = append(rows, []string{"  " + d.Name, "", string(d.Phase), "", "", d.Message})
		}
		for _, s := range d.Services {
			started := ""
			if s.StartedAt != nil {
				started = age(*s.StartedAt, now)
			}
			rows = append(rows, []string{"  " + d.Name, s.Name, string(s.Phase), string(s.Reason), started, s.Message})
		}
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "  it runs nothing")
		return err
	}
	return table(w, []string{"  DEPLOYMENT", "SERVICE", "PHASE", "REASON", "STARTED", "MESSAGE"}, rows)
}

func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return age(*t, now) + " ago"
}

func count(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func mebibytes(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
