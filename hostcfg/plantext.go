package hostcfg

import (
	"fmt"
	"io"
	"strings"
)

// The colours of a plan on a terminal (ECMA-48, select graphic rendition).
const (
	colorReset  = "\x1b[0m"
	colorBold   = "\x1b[1m"
	colorRed    = "\x1b[31m"
	colorGreen  = "\x1b[32m"
	colorYellow = "\x1b[33m"
	colorCyan   = "\x1b[36m"
	colorFaint  = "\x1b[2m"
)

// TextOptions say how a plan is written for people.
type TextOptions struct {
	Color     bool
	Unchanged bool // list the steps that do nothing, too
}

// WriteText writes the plan for a person to read before agreeing to it: each
// step that does something, what it does, and the diffs of the files.
func (p *Plan) WriteText(w io.Writer, opts TextOptions) error {
	t := text{color: opts.Color}
	for _, st := range p.Steps {
		switch {
		case st.Changed():
			t.line(colorBold+colorYellow, "~ "+st.ID)
			for _, c := range st.Changes {
				t.line("", "    "+c)
			}
			t.diff(st.Diff)
		case opts.Unchanged:
			t.line(colorFaint, "  "+st.ID)
		}
	}
	changes, same := p.ChangeCount(), len(p.Steps)-p.ChangeCount()
	t.line(colorBold, fmt.Sprintf("%s: %d to change, %d as wanted", p.Host, changes, same))
	_, err := io.WriteString(w, t.String())
	return err
}

// text collects lines, coloured or not.
type text struct {
	strings.Builder
	color bool
}

func (t *text) line(color, s string) {
	// What comes from a host could hold control sequences for the terminal.
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
	if t.color && color != "" {
		s = color + s + colorReset
	}
	t.WriteString(s + "\n")
}

func (t *text) diff(diff string) {
	for _, l := range lines(diff) {
		color := ""
		switch {
		case strings.HasPrefix(l, "--- "), strings.HasPrefix(l, "+++ "):
			color = colorBold
		case strings.HasPrefix(l, "@@"):
			color = colorCyan
		case strings.HasPrefix(l, "+"):
			color = colorGreen
		case strings.HasPrefix(l, "-"):
			color = colorRed
		}
		t.line(color, "    "+l)
	}
}
