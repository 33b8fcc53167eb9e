package fleet

import (
	"slices"
	"strings"
)

// Grid is the fleet as a map: a cell for each device, by name, in rows of
// Columns cells.
type Grid struct {
	Groups  []Group
	Columns int
	Cell    int // width and height that a cell should have on screen, in pixels
}

// Group is the part of the map with one value of a label.
type Group struct {
	Value   string
	Missing bool // the devices without the label
	Devices []*Device
	States  [states]int
	Columns int
	Rows    int
	Runs    [states][]Run
}

// Run is neighbouring cells of one state in one row.
type Run struct{ Column, Row, Cells int }

// How wide a map is where there is room, in pixels.
const (
	gridWidth  = 1350
	groupWidth = 248 // of each group, when there are several
)

// cellFor gives cells that one can point at in a small fleet, and that fit on
// a screen in a large one.
func cellFor(devices int) int {
	switch {
	case devices <= 120:
		return 24
	case devices <= 800:
		return 16
	case devices <= 3000:
		return 11
	case devices <= 20_000:
		return 8
	}
	return 5
}

// Grid lays the map out, by the values of the label by; "" makes one group. A
// label that groups nothing does too.
func (s *Snapshot) Grid(by string) Grid {
	if !slices.ContainsFunc(s.Facets(), func(f Facet) bool { return f.Key == by }) {
		by = ""
	}
	return once(s, gridKey(by), func() Grid { return s.layOut(by) })
}

type gridKey string

func (s *Snapshot) layOut(by string) Grid {
	g := Grid{Cell: cellFor(len(s.Devices))}
	g.Columns = gridWidth / g.Cell
	if by == "" {
		g.Groups = []Group{{Devices: s.Devices}}
	} else {
		g.Groups = s.groups(by)
		g.Columns = groupWidth / g.Cell
	}
	for i := range g.Groups {
		g.Groups[i].place(g.Columns)
	}
	return g
}

func (s *Snapshot) groups(by string) []Group {
	index := map[string]int{}
	var out []Group
	var without Group
	for _, d := range s.Devices {
		v, ok := d.Labels[by]
		if !ok {
			without.Devices = append(without.Devices, d)
			continue
		}
		i, known := index[v]
		if !known {
			i = len(out)
			index[v] = i
			out = append(out, Group{Value: v})
		}
		out[i].Devices = append(out[i].Devices, d)
	}
	slices.SortFunc(out, func(a, b Group) int { return strings.Compare(a.Value, b.Value) })
	if len(without.Devices) > 0 {
		without.Missing = true
		out = append(out, without)
	}
	return out
}

func (g *Group) place(columns int) {
	g.Columns = max(1, min(columns, len(g.Devices)))
	g.Rows = (len(g.Devices) + g.Columns - 1) / g.Columns
	for i, d := range g.Devices {
		g.States[d.State]++
		column, row := i%g.Columns, i/g.Columns
		runs := g.Runs[d.State]
		if n := len(runs) - 1; n >= 0 && runs[n].Row == row && runs[n].Column+runs[n].Cells == column {
			runs[n].Cells++
			continue
		}
		g.Runs[d.State] = append(runs, Run{Column: column, Row: row, Cells: 1})
	}
}
