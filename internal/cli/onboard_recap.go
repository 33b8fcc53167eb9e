package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/onboard"
)

// writeRecap says what the host is now, also when nothing had to change.
func writeRecap(ctx context.Context, f *Factory, d *onboard.Device, j *hostJob, alive bool) error {
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(d.Labels)) {
		labels = append(labels, key+"="+d.Labels[key])
	}
	fmt.Fprintf(f.Out, "%s: %d changed in %.1fs\n", j.name, j.outcome.Changed, j.took.Seconds())
	for _, row := range [][2]string{
		{"device", d.ID},
		{"server", strings.Join(d.Enrolment.NATSURLs, ", ")},
		{"labels", strings.Join(labels, ", ")},
		{"user", onboard.User + " (" + onboard.Home + ")"},
		{"binary", onboard.Binary + " → " + onboard.VersionedBinary(d.AgentVersion)},
		{"unit", onboard.Unit},
	} {
		fmt.Fprintf(f.Out, "  %-8s%s\n", row[0], printable(row[1]))
	}
	if !alive {
		return nil
	}
	kube, err := kubeClient(f)
	if err != nil {
		return err
	}
	object, err := getDevice(ctx, kube, d.ID)
	if err != nil {
		return err
	}
	fmt.Fprintln(f.Out)
	return writeDevices(f.Out, []deviceResult{newDeviceResult(object)}, time.Now())
}
