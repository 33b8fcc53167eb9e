package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newDescribeCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe",
		Short: "Show a device or a deployment, and what blocks it",
	}
	cmd.AddCommand(newDescribeDeviceCmd(f), newDescribeDeploymentCmd(f))
	return cmd
}

// section writes aligned "Name:  value" lines and leaves out empty values.
func section(w io.Writer, title string, pairs [][2]string) {
	if title != "" {
		fmt.Fprintf(w, "\n%s\n", title)
	}
	width := 0
	for _, p := range pairs {
		width = max(width, len(p[0]))
	}
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(w, "  %-*s  %s\n", width+1, p[0]+":", printable(p[1]))
		}
	}
}

func writeConditions(w io.Writer, conditions []metav1.Condition, now time.Time) error {
	fmt.Fprintf(w, "\nConditions\n")
	var rows [][]string
	for _, c := range conditions {
		rows = append(rows, []string{"  " + c.Type, string(c.Status), c.Reason, age(c.LastTransitionTime.Time, now), c.Message})
	}
	return table(w, []string{"  TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"}, rows)
}

func joinLabels(labels map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, key+"="+labels[key])
	}
	return strings.Join(out, ", ")
}

func sortedByName[T any](items []T, name func(T) string) []T {
	slices.SortFunc(items, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return items
}
