package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
)

// progress shows what happens on each host. On a terminal every host that is
// at work has a line of its own that is written over; finished steps scroll by
// above. Elsewhere only finished steps are shown, a line each.
type progress struct {
	w    io.Writer
	live bool

	mu    sync.Mutex
	many  bool
	lines []string // what each job does now; "" is nothing
	shown int      // lines on the screen that belong to us
}

func newProgress(f *Factory) *progress {
	return &progress{w: f.Err, live: f.ErrTerminal && !f.NoColor}
}

func (p *progress) begin(jobs []*hostJob) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.many, p.lines = len(jobs) > 1, make([]string, len(jobs))
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	p.lines = nil
}

// set says what a host is doing.
func (p *progress) set(j *hostJob, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines[j.index] = j.name + ": " + what + " …"
	p.redraw("")
}

func (p *progress) clear(j *hostJob) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines[j.index] = ""
	p.redraw("")
}

// step shows a step of a plan as it begins and ends.
func (p *progress) step(j *hostJob, e hostcfg.StepEvent) {
	at := fmt.Sprintf("[%d/%d] %s", e.Index+1, e.Total, printable(e.Step.ID))
	if !e.Done {
		p.set(j, at)
		return
	}
	outcome := fmt.Sprintf("%.1fs", e.Elapsed.Round(100*time.Millisecond).Seconds())
	if e.Err != nil {
		outcome = "failed after " + outcome
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	line := at + "  " + outcome + "\n"
	if p.many {
		line = j.name + ": " + line
	}
	p.redraw(line)
}

// redraw writes finished, which stays, and the live lines below it.
func (p *progress) redraw(finished string) {
	p.erase()
	_, _ = io.WriteString(p.w, finished)
	if !p.live {
		return
	}
	for _, l := range p.lines {
		if l != "" {
			_, _ = io.WriteString(p.w, clip(l)+"\n")
			p.shown++
		}
	}
}

// erase takes our lines off the screen: cursor up, erase below (ECMA-48).
func (p *progress) erase() {
	if p.shown > 0 {
		_, _ = fmt.Fprintf(p.w, "\x1b[%dA\x1b[J", p.shown)
		p.shown = 0
	}
}

// clip keeps a live line on one row of any usual terminal.
func clip(s string) string {
	const width = 79
	if r := []rune(s); len(r) > width {
		return strings.TrimSpace(string(r[:width-1])) + "…"
	}
	return s
}
