package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

type getDevicesOptions struct {
	name     string
	selector string
}

func newGetDevicesCmd(f *Factory) *cobra.Command {
	o := &getDevicesOptions{}
	cmd := &cobra.Command{
		Use:     "devices [NAME]",
		Aliases: []string{"device", "fleetdev"},
		Short:   "List devices and whether they are alive",
		Example: `  fleetctl get devices
  fleetctl get devices --selector site=lyon
  fleetctl get devices pi-1 --output json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.name = args[0]
			}
			return runGetDevices(cmd.Context(), f, o)
		},
		ValidArgsFunction: completeDevices(f),
	}
	cmd.Flags().StringVarP(&o.selector, "selector", "l", "", "`labels` as kubectl takes them")
	return cmd
}

type devicesResult struct {
	SchemaVersion int            `json:"schemaVersion"`
	Devices       []deviceResult `json:"devices"`
}

type deviceResult struct {
	DeviceID      string             `json:"deviceId"`
	Ready         string             `json:"ready"` // True, False or Unknown
	Reason        string             `json:"reason,omitempty"`
	Connected     string             `json:"connected"`          // as ready
	UpToDate      string             `json:"upToDate"`           // as ready
	InTheWay      string             `json:"inTheWay,omitempty"` // what keeps it from being both
	MachineID     string             `json:"machineId,omitempty"`
	Enrolled      *time.Time         `json:"enrolled,omitempty"`
	Revoked       *time.Time         `json:"revoked,omitempty"`
	Leaving       bool               `json:"leaving,omitempty"` // it is being off-boarded
	Labels        map[string]string  `json:"labels,omitempty"`
	Inventory     v1alpha1.Inventory `json:"inventory"`
	LastHeartbeat *time.Time         `json:"lastHeartbeat,omitempty"`
	CreatedAt     time.Time          `json:"createdAt"`
}

func newDeviceResult(d *v1alpha1.Device) deviceResult {
	ready, reason := conditionOf(d.Status.Conditions, v1alpha1.ConditionReady)
	connected, _ := conditionOf(d.Status.Conditions, v1alpha1.ConditionConnected)
	upToDate, _ := conditionOf(d.Status.Conditions, v1alpha1.ConditionUpToDate)
	return deviceResult{
		DeviceID: d.Name, Ready: ready, Reason: reason, Connected: connected, UpToDate: upToDate, InTheWay: inTheWay(d),
		MachineID: d.Spec.MachineID, Enrolled: timeOf(d.Spec.Enrolled), Revoked: timeOf(d.Spec.Revoked), Leaving: d.DeletionTimestamp != nil,
		Labels: d.Labels, Inventory: d.Status.Inventory,
		LastHeartbeat: timeOf(d.Status.LastHeartbeat), CreatedAt: d.CreationTimestamp.UTC(),
	}
}

// inTheWay is the one thing to look at first: what stops a device, or else what
// stops its work. "" when nothing does.
func inTheWay(d *v1alpha1.Device) string {
	if d.DeletionTimestamp != nil {
		return "it is being off-boarded"
	}
	for _, name := range []string{v1alpha1.ConditionIdentityConflict, v1alpha1.ConditionReady, v1alpha1.ConditionUpToDate} {
		c := meta.FindStatusCondition(d.Status.Conditions, name)
		good := metav1.ConditionTrue
		if name == v1alpha1.ConditionIdentityConflict {
			good = metav1.ConditionFalse
		}
		if c == nil || c.Status == good {
			continue
		}
		if link := meta.FindStatusCondition(d.Status.Conditions, v1alpha1.ConditionConnected); c.Reason == v1alpha1.ReasonDisconnected && link != nil {
			return c.Message + " (" + link.Message + ")"
		}
		return c.Message
	}
	return ""
}

func runGetDevices(ctx context.Context, f *Factory, o *getDevicesOptions) error {
	selector, err := parseLabelSelector(o.selector)
	if err != nil {
		return err
	}
	c, err := kubeClient(f)
	if err != nil {
		return err
	}
	devices, err := listDevices(ctx, c, o.name, selector)
	if err != nil {
		return err
	}
	result := devicesResult{SchemaVersion: wire.SchemaVersion, Devices: []deviceResult{}}
	for i := range devices {
		result.Devices = append(result.Devices, newDeviceResult(&devices[i]))
	}
	if len(devices) == 0 && f.TextOutput() {
		fmt.Fprintln(f.Err, "no devices; make one with: fleetctl onboard USER@HOST")
		return nil
	}
	return f.Print(result, func(w io.Writer) error { return writeDevices(w, result.Devices, time.Now()) })
}

func listDevices(ctx context.Context, c client.Client, name string, selector labels.Selector) ([]v1alpha1.Device, error) {
	if name != "" {
		d, err := getDevice(ctx, c, name)
		if err != nil {
			return nil, err
		}
		return []v1alpha1.Device{*d}, nil
	}
	list := &v1alpha1.DeviceList{}
	if err := c.List(ctx, list, client.MatchingLabelsSelector{Selector: selector}); err != nil {
		return nil, explainKube(fmt.Errorf("list devices: %w", err))
	}
	return list.Items, nil
}

func getDevice(ctx context.Context, c client.Client, name string) (*v1alpha1.Device, error) {
	if err := wire.ValidateDeviceID(name); err != nil {
		return nil, usageError(err, "list what there is with: fleetctl get devices")
	}
	d := &v1alpha1.Device{}
	err := c.Get(ctx, client.ObjectKey{Name: name}, d)
	if apierrors.IsNotFound(err) {
		return nil, hint.New(fmt.Sprintf("there is no device %s", name), "list what there is with: fleetctl get devices")
	}
	if err != nil {
		return nil, explainKube(fmt.Errorf("look for device %s: %w", name, err))
	}
	return d, nil
}

func writeDevices(w io.Writer, devices []deviceResult, now time.Time) error {
	var rows [][]string
	for _, d := range devices {
		heartbeat := ""
		if d.LastHeartbeat != nil {
			heartbeat = age(*d.LastHeartbeat, now)
		}
		rows = append(rows, []string{
			d.DeviceID, d.Ready, d.Reason, d.UpToDate, d.Inventory.Architecture, d.Inventory.Model, d.Inventory.OS,
			d.Inventory.AgentVersion, heartbeat, age(d.CreatedAt, now),
		})
	}
	return table(w, []string{"DEVICE", "READY", "REASON", "UP-TO-DATE", "ARCH", "MODEL", "OS", "AGENT", "HEARTBEAT", "AGE"}, rows)
}

// completeDevices offers device ids; without a server it offers none.
func completeDevices(f *Factory) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		c, err := kubeClient(f)
		list := &v1alpha1.DeviceList{}
		if len(args) > 0 || err != nil || c.List(cmd.Context(), list) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, d := range list.Items {
			names = append(names, d.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
