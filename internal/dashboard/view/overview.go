package view

import (
	"strconv"
	"strings"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
)

// How many problems the start page shows at once, and names at all.
const (
	firstProblems = 6
	maxProblems   = 40
)

// OverviewData is what the start page shows.
type OverviewData struct {
	Snapshot  *fleet.Snapshot
	Grid      fleet.Grid
	By        string // label that the map is grouped by
	ServerURL string
}

// Cards and legends begin with what is well.
var (
	stateOrder  = []fleet.State{fleet.Ready, fleet.Offline, fleet.New, fleet.Conflict}
	healthOrder = []fleet.Health{fleet.Running, fleet.Rolling, fleet.Failing, fleet.Blocked, fleet.Idle}
)

// drawRuns is the path of runs of cells: each a stroke of the run's length.
func drawRuns(runs []fleet.Run) string {
	var b strings.Builder
	b.Grow(8 * len(runs))
	for _, r := range runs {
		b.WriteByte('M')
		b.WriteString(strconv.Itoa(r.Column))
		b.WriteByte(' ')
		b.WriteString(strconv.Itoa(r.Row))
		b.WriteByte('h')
		b.WriteString(strconv.Itoa(r.Cells))
	}
	return b.String()
}

func statesIn(g fleet.Grid, s fleet.State) int {
	n := 0
	for i := range g.Groups {
		n += g.Groups[i].States[s]
	}
	return n
}

func groupTitle(g *fleet.Group) string {
	switch {
	case g.Missing:
		return "without the label"
	case g.Value == "":
		return "All devices"
	}
	return g.Value
}

// groupSummary says in words what the colours do.
func groupSummary(g *fleet.Group) string {
	if g.States[fleet.Ready] == len(g.Devices) {
		return plural(len(g.Devices), "device", "devices") + ", all ready"
	}
	parts := []string{plural(len(g.Devices), "device", "devices")}
	for _, s := range stateOrder[1:] {
		if n := g.States[s]; n > 0 {
			parts = append(parts, number(n)+" "+strings.ToLower(s.Title()))
		}
	}
	return strings.Join(parts, ", ")
}
