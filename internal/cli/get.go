package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"
)

func newGetCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "List devices or deployments",
	}
	cmd.AddCommand(newGetDevicesCmd(f), newGetDeploymentsCmd(f))
	return cmd
}

func parseLabelSelector(text string) (labels.Selector, error) {
	s, err := labels.Parse(text)
	if err != nil {
		return nil, usageError(fmt.Errorf("--selector %q: %w", text, err), "for example: --selector site=lyon,arch!=arm")
	}
	return s, nil
}

// table writes aligned columns; an empty cell shows as "-".
func table(w io.Writer, header []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(tw, strings.Join(header, "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// printable makes text that came from elsewhere safe for a terminal and a
// table: no control characters, and "-" for nothing.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if strings.TrimSpace(s) == "" {
		return "-"
	}
	return s
}

// age is the time since t as kubectl shows it.
func age(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return duration.HumanDuration(now.Sub(t))
}

// conditionOf gives a condition's status and reason; "Unknown" when it is not
// there yet.
func conditionOf(conditions []metav1.Condition, name string) (status, reason string) {
	if c := meta.FindStatusCondition(conditions, name); c != nil {
		return string(c.Status), c.Reason
	}
	return string(metav1.ConditionUnknown), ""
}

func timeOf(t *metav1.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	utc := t.UTC()
	return &utc
}
