package vm

import (
	"bytes"
	"regexp"
	"strings"
	"time"
)

// Phase is how far a guest's start has come.
type Phase string

const (
	PhaseFirmware  Phase = "firmware"
	PhaseKernel    Phase = "kernel"
	PhaseSystem    Phase = "system"
	PhaseFirstBoot Phase = "cloud-init"
	PhaseLease     Phase = "lease"
	PhaseSSH       Phase = "sshd"
	PhaseDone      Phase = "done"
)

// phases in their order; a guest never goes back within one start.
var phases = []Phase{PhaseFirmware, PhaseKernel, PhaseSystem, PhaseFirstBoot, PhaseLease, PhaseSSH, PhaseDone}

// marks are what consoles of Linux guests say, the furthest phase first.
var marks = []struct {
	phase Phase
	text  *regexp.Regexp
}{
	{PhaseFirstBoot, regexp.MustCompile(`Cloud-init v\. |cloud-init\[\d+\]`)},
	{PhaseSystem, regexp.MustCompile(`systemd\[1\]: `)},
	{PhaseKernel, regexp.MustCompile(`Linux version |\[ +\d+\.\d{6}\] `)},
}

// phaseOf reads the phase off a console.
func phaseOf(console []byte) Phase {
	for _, mark := range marks {
		if mark.text.Match(console) {
			return mark.phase
		}
	}
	return PhaseFirmware
}

// progress remembers the furthest phase and when the wait began.
type progress struct {
	phase  Phase
	start  time.Time
	report func(Phase, time.Duration)
}

func newProgress(report func(Phase, time.Duration)) *progress {
	p := &progress{phase: PhaseFirmware, start: time.Now(), report: report}
	return p
}

func (p *progress) since() time.Duration { return time.Since(p.start) }

// reach reports a phase that is further than all before.
func (p *progress) reach(phase Phase) {
	if rank(phase) <= rank(p.phase) {
		return
	}
	p.phase = phase
	if p.report != nil {
		p.report(phase, p.since())
	}
}

func rank(phase Phase) int {
	for i, candidate := range phases {
		if candidate == phase {
			return i
		}
	}
	return -1
}

// escapes are what terminals interpret; a quoted console must not.
var escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b\x0c\x0e-\x1f]`)

// quote gives the last lines of a console, indented.
func quote(console []byte) string {
	clean := escapes.ReplaceAllString(string(bytes.ToValidUTF8(console, []byte("?"))), "")
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(clean, "\r", "\n"), "\n") {
		if line = strings.TrimRight(line, " \t"); line != "" {
			lines = append(lines, "  | "+line)
		}
	}
	if len(lines) == 0 {
		return "  | (it said nothing)"
	}
	return strings.Join(lines[max(0, len(lines)-quoteLines):], "\n")
}
