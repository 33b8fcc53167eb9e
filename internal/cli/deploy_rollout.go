package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// rolloutFlags are deploy's flags for spec.rollout. A flag that is not given
// leaves what the Deployment has.
type rolloutFlags struct {
	batch, maxUnavailable, groupBy string
	minReady, deadline             time.Duration
	maxFailures                    int32
	autoRollback, none             bool

	changed func(flag string) bool
}

func (r *rolloutFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&r.batch, "batch", "", "roll a change out to so many devices at a time, then see whether they are well: a `number` or percentage, such as 10%")
	flags.StringVar(&r.maxUnavailable, "max-unavailable", "", "how many devices may be down at a time for the rollout to go on: a `number` or percentage")
	flags.StringVar(&r.groupBy, "group-by", "", "a `label` of the devices, such as site: each of its values has batches of its own")
	flags.DurationVar(&r.minReady, "min-ready", 0, "how `long` a device has to run a change to count as well (default 30s)")
	flags.DurationVar(&r.deadline, "progress-deadline", 0, "how `long` a device may take before it counts as failed (default 10m0s)")
	flags.Int32Var(&r.maxFailures, "max-failures", 0, "how many `devices` may fail before the rollout stops")
	flags.BoolVar(&r.autoRollback, "auto-rollback", false, "bring the devices back to the last good revision when the rollout stops")
	flags.BoolVar(&r.none, "no-rollout", false, "give every device a change at once, also if that was otherwise before")
	for _, name := range []string{"batch", "max-unavailable", "group-by", "min-ready", "progress-deadline", "max-failures", "auto-rollback", "delete"} {
		cmd.MarkFlagsMutuallyExclusive("no-rollout", name)
	}
}

// keepRollout gives d the rollout that the Deployment has, with what the flags
// say over it: who deploys another image in a hurry does not mean to give it to
// the whole fleet at once.
func (o *deployOptions) keepRollout(ctx context.Context, c client.Client, d *v1alpha1.Deployment) error {
	live := &v1alpha1.Deployment{}
	err := c.Get(ctx, client.ObjectKeyFromObject(d), live)
	if err != nil && !apierrors.IsNotFound(err) {
		return explainKube(fmt.Errorf("look for deployment %s: %w", d.Name, err))
	}
	d.Spec.Rollout, err = o.rollout.over(live.Spec.Rollout)
	return err
}

// over gives the flags over what there is; nil for no rollout.
func (r *rolloutFlags) over(live *v1alpha1.Rollout) (*v1alpha1.Rollout, error) {
	if r.none {
		return nil, nil
	}
	out := live.DeepCopy()
	set := func(flag string, to func(*v1alpha1.Rollout)) {
		if r.changed(flag) {
			if out == nil {
				out = &v1alpha1.Rollout{}
			}
			to(out)
		}
	}
	var errs []error
	amount := func(flag, text string) *intstr.IntOrString {
		v, err := parseAmount(flag, text)
		errs = append(errs, err)
		return v
	}
	seconds := func(flag string, d time.Duration) *int32 {
		if d < 0 || d > 24*time.Hour || d%time.Second != 0 {
			errs = append(errs, fmt.Errorf("--%s %s: whole seconds up to 24h", flag, d))
		}
		n := int32(d / time.Second) //nolint:gosec // a day at most
		return &n
	}
	set("batch", func(s *v1alpha1.Rollout) { s.Batch = amount("batch", r.batch) })
	set("max-unavailable", func(s *v1alpha1.Rollout) { s.MaxUnavailable = amount("max-unavailable", r.maxUnavailable) })
	set("group-by", func(s *v1alpha1.Rollout) { s.GroupBy = r.groupBy })
	set("min-ready", func(s *v1alpha1.Rollout) { s.MinReadySeconds = seconds("min-ready", r.minReady) })
	set("progress-deadline", func(s *v1alpha1.Rollout) { s.ProgressDeadlineSeconds = seconds("progress-deadline", r.deadline) })
	set("max-failures", func(s *v1alpha1.Rollout) { s.MaxFailures = &r.maxFailures })
	set("auto-rollback", func(s *v1alpha1.Rollout) { s.AutoRollback = r.autoRollback })
	if err := errors.Join(errs...); err != nil {
		return nil, usageError(err, "see: fleetctl deploy --help")
	}
	if out != nil {
		out.Paused, out.Attempt = false, 0 // fleetctl rollout sets them, and they stay
	}
	return out, nil
}

var percentage = regexp.MustCompile(`^([1-9][0-9]?|100)%$`)

// parseAmount takes a number of devices or a percentage.
func parseAmount(flag, text string) (*intstr.IntOrString, error) {
	if percentage.MatchString(text) {
		v := intstr.FromString(text)
		return &v, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return nil, fmt.Errorf("--%s %q is neither a number of devices nor a percentage, such as 5 or 10%%", flag, text)
	}
	v := intstr.FromInt32(int32(n))
	return &v, nil
}
