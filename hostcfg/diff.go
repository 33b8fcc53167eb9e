package hostcfg

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sergi/go-diff/diffmatchpatch"
)

// diffContext is the number of unchanged lines around a change.
const diffContext = 3

// diffLine is a line of an edit script: ' ', '-' or '+' and the line with its
// newline, if it has one.
type diffLine struct {
	op   byte
	text string
}

// unifiedDiff writes the change of a file in the format that patch(1) reads.
// A nil old or new stands for /dev/null. Binary content gives one line.
func unifiedDiff(path string, old, new []byte) string {
	if !isText(old) || !isText(new) {
		return fmt.Sprintf("Binary file %s: %d bytes become %d bytes\n", path, len(old), len(new))
	}
	if bytes.Equal(old, new) && (old == nil) == (new == nil) {
		return ""
	}
	from, to := "a"+path, "b"+path
	if old == nil {
		from = "/dev/null"
	}
	if new == nil {
		to = "/dev/null"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", from, to)
	writeHunks(&b, editScript(string(old), string(new)))
	return b.String()
}

func isText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

func editScript(old, new string) []diffLine {
	dmp := diffmatchpatch.New()
	dmp.DiffTimeout = 0 // a cut-off diff would depend on the machine's load
	a, b, table := dmp.DiffLinesToRunes(old, new)
	var script []diffLine
	for _, d := range dmp.DiffCharsToLines(dmp.DiffMainRunes(a, b, false), table) {
		op := byte(' ')
		switch d.Type {
		case diffmatchpatch.DiffDelete:
			op = '-'
		case diffmatchpatch.DiffInsert:
			op = '+'
		}
		for _, l := range strings.SplitAfter(d.Text, "\n") {
			if l != "" {
				script = append(script, diffLine{op, l})
			}
		}
	}
	return script
}

// writeHunks groups changes that are at most twice the context apart.
func writeHunks(b *strings.Builder, script []diffLine) {
	oldLine, newLine := 1, 1 // of the first line not yet written
	for i := 0; i < len(script); {
		first := i
		for first < len(script) && script[first].op == ' ' {
			first++
		}
		if first == len(script) {
			return
		}
		last := first // the last changed line of the hunk
		for j := first; j < len(script) && j-last <= 2*diffContext; j++ {
			if script[j].op != ' ' {
				last = j
			}
		}
		begin := max(i, first-diffContext)
		end := min(len(script), last+1+diffContext)
		oldLine += begin - i
		newLine += begin - i
		oldCount, newCount := 0, 0
		for _, l := range script[begin:end] {
			if l.op != '+' {
				oldCount++
			}
			if l.op != '-' {
				newCount++
			}
		}
		fmt.Fprintf(b, "@@ -%s +%s @@\n", hunkRange(oldLine, oldCount), hunkRange(newLine, newCount))
		for _, l := range script[begin:end] {
			b.WriteByte(l.op)
			b.WriteString(l.text)
			if !strings.HasSuffix(l.text, "\n") {
				b.WriteString("\n\\ No newline at end of file\n")
			}
		}
		oldLine += oldCount
		newLine += newCount
		i = end
	}
}

// hunkRange is start,count; an empty range names the line before it.
func hunkRange(start, count int) string {
	switch count {
	case 0:
		return fmt.Sprintf("%d,0", start-1)
	case 1:
		return fmt.Sprint(start)
	}
	return fmt.Sprintf("%d,%d", start, count)
}
