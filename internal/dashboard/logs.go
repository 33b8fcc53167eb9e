package dashboard

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	logTail    = 200                    // lines that a page begins with
	logPace    = 100 * time.Millisecond // between two events
	maxLogLine = 8 << 10                // bytes; what is longer is cut into lines
	// maxLogWaiting is how much may wait for the browser before the device
	// has to, in bytes.
	maxLogWaiting = 256 << 10
)

func logsRequest(r *http.Request) (wire.LogsRequest, error) {
	l := wire.LogsRequest{Target: wire.Target{Deployment: r.FormValue("deployment"), Service: r.FormValue("service")}, Tail: logTail}
	if err := l.Validate(); err != nil {
		return l, &problem{status: http.StatusBadRequest, title: "Not understood", text: capital(err.Error()) + "."}
	}
	return l, nil
}

// followLogs streams a service's output as it comes.
func (d *Dashboard) followLogs(w http.ResponseWriter, r *http.Request, who *session.Session) error {
	l, err := logsRequest(r)
	if err != nil {
		return err
	}
	l.Follow = true
	if left, err := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		// The browser comes back: go on where it left.
		if ago := time.Now().Unix() - left; ago >= 0 && ago < int64(time.Hour/time.Second) {
			l.Tail, l.SinceSeconds = 0, ago+1
		}
	}
	ctx, e, end, err := d.openStream(w, r, who)
	if err != nil {
		return err
	}
	defer end()
	lines := newLogLines(ctx)
	result := make(chan error, 1)
	go func() {
		result <- d.api.Logs(ctx, r.PathValue("id"), l, lines.stream(""), lines.stream("err"))
		lines.close()
	}()
	if e.comment() != nil {
		return nil
	}
	tick := time.NewTicker(logPace)
	defer tick.Stop()
	quiet := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		more, ended := lines.take()
		switch {
		case len(more) > 0:
			if e.sendWithID("lines", strconv.FormatInt(time.Now().Unix(), 10), more) != nil {
				return nil
			}
			quiet = time.Now()
		case ended:
			return e.endLogs(<-result)
		case time.Since(quiet) > keepAlive:
			if e.comment() != nil {
				return nil
			}
			quiet = time.Now()
		}
	}
}

// endLogs says why there is no more, and that the browser need not come back.
func (e *events) endLogs(err error) error {
	text := "The output has ended."
	if err != nil {
		text = capital(err.Error()) + "."
	}
	if e.send("lines", []byte(`<span class="note">`+html.EscapeString(clean(text))+"</span>")) == nil {
		_ = e.send("end", nil) // the browser has gone, or it has not
	}
	return nil
}

// logsText is the output up to now, as plain text.
func (d *Dashboard) logsText(w http.ResponseWriter, r *http.Request, _ *session.Session) error {
	l, err := logsRequest(r)
	if err != nil {
		return err
	}
	l.Tail = 0
	var buf bytes.Buffer
	out := &limitedBuffer{to: &buf, left: 8 << 20}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	if err := d.api.Logs(ctx, r.PathValue("id"), l, out, out); err != nil {
		if apiclient.Code(err) != "" {
			return refusedByAPI(err)
		}
		return err
	}
	attachment(w, "output.txt")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	d.write(w, r, http.StatusOK, buf.Bytes())
	return nil
}

type limitedBuffer struct {
	to   *bytes.Buffer
	left int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if len(p) > b.left {
		return 0, fmt.Errorf("the output is larger than can be downloaded here; use fleetctl logs")
	}
	b.left -= len(p)
	return b.to.Write(p)
}

// logLines gathers lines as HTML until they are taken.
type logLines struct {
	ctx    context.Context
	mu     sync.Mutex
	space  *sync.Cond
	html   bytes.Buffer
	closed bool
}

func newLogLines(ctx context.Context) *logLines {
	l := &logLines{ctx: ctx}
	l.space = sync.NewCond(&l.mu)
	context.AfterFunc(ctx, l.space.Broadcast)
	return l
}

// stream is where one of the two outputs goes.
func (l *logLines) stream(class string) *logStream { return &logStream{lines: l, class: class} }

func (l *logLines) take() (more []byte, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	more = bytes.Clone(l.html.Bytes())
	l.html.Reset()
	l.space.Broadcast()
	return more, l.closed
}

func (l *logLines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
}

// add waits while too much waits to be taken.
func (l *logLines) add(class, line string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.html.Len() > maxLogWaiting && l.ctx.Err() == nil {
		l.space.Wait()
	}
	if err := l.ctx.Err(); err != nil {
		return err
	}
	fmt.Fprintf(&l.html, `<span class="line %s">%s</span>`, class, html.EscapeString(clean(line)))
	return nil
}

type logStream struct {
	lines *logLines
	class string
	part  []byte // of a line that has not ended
}

func (s *logStream) Write(p []byte) (int, error) {
	s.part = append(s.part, p...)
	for {
		end := bytes.IndexByte(s.part, '\n')
		if end < 0 && len(s.part) < maxLogLine {
			return len(p), nil
		}
		if end < 0 || end > maxLogLine {
			end = maxLogLine - 1
		}
		line := strings.ToValidUTF8(string(s.part[:end+1]), "\ufffd")
		s.part = s.part[end+1:]
		if err := s.lines.add(s.class, strings.TrimRight(line, "\r\n")); err != nil {
			return 0, err
		}
	}
}

// terminal is what programs say to terminals (ECMA-48).
var terminal = regexp.MustCompile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[@-_])")

// clean takes out what would not be text on a page: terminal sequences,
// control characters, and marks that turn the direction of writing around.
func clean(line string) string {
	line = terminal.ReplaceAllString(line, "")
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case unicode.IsControl(r), r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f:
			return '\ufffd'
		}
		return r
	}, line)
}
