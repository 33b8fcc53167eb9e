package sshhost

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// shell is one session that has become root and takes requests.
type shell struct {
	ch       ssh.Channel
	marker   string
	out, err *stream
	merged   bool // stderr follows stdout on one stream
	ready    bool // functions were sent
	inner    bool // the loop runs in the left half of a finished script's pipeline
	requests int
	how      elevation

	exited  chan struct{} // the far side's process ended
	closing sync.Once
	pen     chan struct{} // who holds it may write: a frame is written whole
}

// leave ends the loop, or the inner one of the two (see functions).
const leave = "exit 0\n"

// How long the far side gets to end what it runs: three seconds and a round
// trip, see loop.
const (
	killGrace  = 4 * time.Second
	stuckWrite = 500 * time.Millisecond
)

// openSession opens a channel and has the login shell start text. Nothing is
// waited for but the channel itself: the request carries no reply, and the
// server's window for our input comes with its first output.
func openSession(client *ssh.Client, text, marker string, pty bool) (*shell, error) {
	ch, reqs, err := client.OpenChannel("session", nil)
	if err != nil {
		return nil, fmt.Errorf("open session: %w", err)
	}
	s := &shell{ch: ch, marker: marker, merged: pty, exited: make(chan struct{}), pen: make(chan struct{}, 1)}
	s.pen <- struct{}{}
	go func() {
		defer close(s.exited)
		for r := range reqs {
			if r.WantReply {
				_ = r.Reply(false, nil)
			}
		}
	}()
	if pty {
		if _, err := ch.SendRequest("pty-req", false, ptyRequest()); err != nil {
			_ = ch.Close()
			return nil, fmt.Errorf("request a terminal: %w", err)
		}
	}
	command := struct{ Command string }{bootstrapCommand(text, marker)}
	if _, err := ch.SendRequest("exec", false, ssh.Marshal(&command)); err != nil {
		_ = ch.Close()
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	s.out, s.err = collect(ch), collect(ch.Stderr())
	return s, nil
}

// ptyRequest asks for a dumb terminal that changes nothing on the way through
// (RFC 4254, sections 6.2 and 8).
func ptyRequest() []byte {
	modes := []byte{}
	for _, m := range []uint8{ssh.ECHO, ssh.ICANON, ssh.ISIG, ssh.IEXTEN, ssh.OPOST, ssh.ICRNL, ssh.INLCR, ssh.IGNCR, ssh.IXON, ssh.IXOFF} {
		modes = append(modes, m, 0, 0, 0, 0)
	}
	return ssh.Marshal(&struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{"dumb", 80, 24, 0, 0, string(append(modes, 0))})
}

// errors is the stream that the far side's stderr comes on.
func (s *shell) errors() *stream {
	if s.merged {
		return s.out
	}
	return s.err
}

// write writes all of text, after what others are writing. When the shell was
// stopped it gives io.EOF, as the channel would.
func (s *shell) write(text []byte) error {
	if _, ok := <-s.pen; !ok {
		return io.EOF
	}
	_, err := s.ch.Write(text)
	s.pen <- struct{}{}
	return err
}

// endInput tells the far side that no more comes. When a write is stuck
// because the far side takes nothing, only closing the channel is left.
func (s *shell) endInput() {
	select {
	case <-s.pen:
		_ = s.ch.CloseWrite()
		close(s.pen)
	case <-time.After(stuckWrite):
		_ = s.ch.Close()
	}
}

// output is what one request came to.
type output struct {
	stdout, stderr []byte
	code           int
}

// run runs one script. stdin may be nil. An error leaves the shell unusable
// and the script killed.
func (s *shell) run(ctx context.Context, script string, stdin io.Reader) (output, error) {
	s.requests++
	id := strconv.Itoa(s.requests)

	in := &feeder{shell: s}
	wrote := make(chan error, 1)
	head := s.request(id, script, stdin != nil)
	go func() {
		err := s.write(head)
		if err == nil && stdin != nil {
			err = in.copy(stdin)
		}
		wrote <- err
	}()

	type answer struct {
		output
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		out, err := s.answer(ctx, id)
		answered <- answer{out, err}
	}()

	var a answer
	select {
	case a = <-answered:
	case err := <-wrote:
		if err != nil {
			s.stop()
			a = <-answered
			a.err = err
			break
		}
		a = <-answered
	}
	if a.err == nil && stdin != nil {
		a.err = in.end()
		s.inner = true
	}
	if a.err != nil {
		s.stop()
	}
	return a.output, a.err
}

// request gives the bytes that have the far side run a script.
func (s *shell) request(id, script string, input bool) []byte {
	var b strings.Builder
	if !s.ready {
		s.ready = true
		b.WriteString(functions(s.merged))
	}
	if s.inner {
		s.inner = false
		b.WriteString(leave)
	}
	kind := "R"
	if input {
		kind = "I"
	}
	if script == "" {
		script = ":" // dd refuses blocks of 0 bytes
	}
	fmt.Fprintf(&b, "%s %s %d\n%s", kind, id, len(script), script)
	return []byte(b.String())
}

// answer reads what the far side prints for a request.
func (s *shell) answer(ctx context.Context, id string) (output, error) {
	stdout, status, err := s.out.line(ctx, s.marker+" "+id+" ")
	if err != nil {
		return output{}, err
	}
	code, err := strconv.Atoi(status)
	if err != nil {
		return output{}, fmt.Errorf("read the status %q: %w", status, err)
	}
	stderr, _, err := s.errors().line(ctx, s.marker+" "+id)
	return output{stdout, stderr, code}, err
}

// stop ends the shell and what it runs, and waits for the far side to say so:
// the process ends, or the script in progress reports its status.
func (s *shell) stop() {
	s.closing.Do(func() {
		s.endInput()
		if !s.merged { // the end of input does not pass a terminal; hanging up does
			ctx, cancel := context.WithTimeout(context.Background(), killGrace)
			defer cancel()
			reported := make(chan struct{})
			go func() {
				defer close(reported)
				_ = s.out.wait(ctx, s.marker+" "+strconv.Itoa(s.requests)+" ")
			}()
			select {
			case <-s.exited:
			case <-reported:
			}
		}
		_ = s.ch.Close()
	})
}

// said is the last line that the far side printed of its own accord.
func (s *shell) said() string {
	lines := strings.Split(s.err.tail(maxQuotedTail)+"\n"+s.out.tail(maxQuotedTail), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if l := strings.TrimSpace(lines[i]); l != "" && !strings.Contains(l, s.marker) {
			return l
		}
	}
	return ""
}

// close ends an idle shell.
func (s *shell) close() {
	s.closing.Do(func() {
		if s.inner {
			_ = s.write([]byte(leave))
		}
		_ = s.write([]byte(leave))
		s.endInput()
		_ = s.ch.Close()
	})
}
