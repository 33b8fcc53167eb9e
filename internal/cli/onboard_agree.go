package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/hint"
)

// agree shows the plans and gets the person's word. It says whether to go on:
// with --plan the run ends here, with the plans as its result.
func (r *hostRun) agree(ctx context.Context, o *hostsOptions, question string) (goOn bool, err error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	hosts, steps := r.changing()
	if o.plan {
		return false, r.finishPlan(steps > 0)
	}
	for _, j := range r.jobs {
		if j.err == nil {
			if err := r.writePlan(r.factory.Err, j, r.factory.ColorErr()); err != nil {
				return false, err
			}
		}
	}
	if steps > 0 && !o.yes {
		title := fmt.Sprintf("%s %d steps on %s.", question, steps, r.describeHosts(hosts))
		if err := r.factory.Confirm(ctx, title, "--yes"); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *hostRun) describeHosts(n int) string {
	if len(r.jobs) == 1 {
		return r.jobs[0].name
	}
	return fmt.Sprintf("%d of %d hosts", n, len(r.jobs))
}

// writePlan shows what a host is and what would change on it.
func (r *hostRun) writePlan(w io.Writer, j *hostJob, color bool) error {
	if _, err := fmt.Fprintf(w, "%s: %s\n", j.name, describeFacts(j.plan.Facts)); err != nil {
		return err
	}
	return j.plan.WriteText(w, hostcfg.TextOptions{Color: color})
}

// describeFacts is a host in one line.
func describeFacts(f *hostcfg.Facts) string {
	parts := []string{f.OS.PrettyName, f.Machine}
	if f.Model != "" {
		parts = append(parts, f.Model)
	}
	parts = append(parts,
		fmt.Sprintf("%d CPUs", f.CPUs),
		formatSize(f.MemoryBytes)+" memory", formatSize(f.DiskFreeBytes)+" free",
		fmt.Sprintf("systemd %d", f.SystemdVersion),
		fmt.Sprintf("cgroup v%d", f.CgroupVersion))
	if f.Sudo != "" {
		parts = append(parts, "as "+f.Sudo)
	}
	return printable(strings.Join(parts, ", "))
}

// finishPlan prints the plans as the result of --plan.
func (r *hostRun) finishPlan(changes bool) error {
	err := r.factory.Print(r.result(), func(w io.Writer) error {
		for _, j := range r.jobs {
			if j.err == nil {
				if err := r.writePlan(w, j, r.factory.ColorOut()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.failure(); err != nil {
		return err
	}
	if changes {
		return &exitError{code: hint.CodeChanges}
	}
	return nil
}
