package sshhost

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// maxOutput is how much a script may print to one stream, in bytes.
const maxOutput = 64 << 20

// stream collects what a channel sends, so that both of a session's streams
// are always being read and neither can block the other.
type stream struct {
	mu      sync.Mutex
	buf     []byte
	err     error         // why no more will come
	changed chan struct{} // closed and replaced at every change
}

func collect(r io.Reader) *stream {
	s := &stream{changed: make(chan struct{})}
	go s.pump(r)
	return s
}

func (s *stream) pump(r io.Reader) {
	chunk := make([]byte, 4096)
	for {
		n, err := r.Read(chunk)
		s.mu.Lock()
		s.buf = append(s.buf, chunk[:n]...)
		if err == nil && len(s.buf) > maxOutput {
			err = fmt.Errorf("more than %d MiB of output", maxOutput>>20)
		}
		s.err = err
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
		if n == len(chunk) && n < 64<<10 {
			chunk = make([]byte, 4*n) // a host that is printing much
		}
	}
}

// line waits for a line that begins with prefix and takes it and all before
// it off the stream. What came before loses the newline that the far side
// printed to begin the marker's line.
func (s *stream) line(ctx context.Context, prefix string) (before []byte, rest string, err error) {
	mark := []byte("\n" + prefix)
	scanned := 0
	for {
		s.mu.Lock()
		if i := bytes.Index(s.buf[scanned:], mark); i >= 0 {
			i += scanned
			tail := s.buf[i+len(mark):]
			if end := bytes.IndexByte(tail, '\n'); end >= 0 {
				before, rest = s.buf[:i:i], string(tail[:end])
				s.buf = bytes.Clone(tail[end+1:])
				s.mu.Unlock()
				return before, rest, nil
			}
			scanned = i
		} else if n := len(s.buf) - len(mark); n > scanned {
			scanned = n
		}
		err, changed := s.err, s.changed
		s.mu.Unlock()
		if err != nil {
			return nil, "", err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, "", context.Cause(ctx)
		}
	}
}

// Read takes what there is, for a caller that wants plain bytes.
func (s *stream) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		if len(s.buf) > 0 {
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			s.mu.Unlock()
			return n, nil
		}
		err, changed := s.err, s.changed
		s.mu.Unlock()
		if err != nil {
			return 0, err
		}
		<-changed
	}
}

// wait waits for a line that begins with prefix and leaves it where it is.
func (s *stream) wait(ctx context.Context, prefix string) error {
	for {
		text, changed, err := s.pending()
		if bytes.Contains(text, []byte("\n"+prefix)) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pending gives what has come and was not taken, and a channel that is closed
// when that changes.
func (s *stream) pending() (text []byte, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.buf), s.changed, s.err
}

// tail gives the last n bytes that were not taken, for an error's text.
func (s *stream) tail(n int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(bytes.TrimSpace(s.buf[max(0, len(s.buf)-n):]))
}
