// Package supervise starts parts of a process in order, watches them, and stops
// them in reverse. It knows nothing of what they do.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// stopTimeout is how long one part may take to end.
const stopTimeout = 15 * time.Second

// Part is something that runs beside others until it is stopped.
type Part interface {
	Stop(context.Context) error // waits until it has ended
	Done() <-chan struct{}      // closed when it has ended, asked or not
	Err() error                 // after Done: why, nil when asked
}

// Supervisor starts, watches and stops parts. Its methods are for one goroutine.
type Supervisor struct {
	log     *slog.Logger
	failed  chan error // the first part that ended unasked
	running []namedPart
}

type namedPart struct {
	name string
	Part
}

// New makes a Supervisor without parts.
func New(log *slog.Logger) *Supervisor {
	return &Supervisor{log: log, failed: make(chan error, 1)}
}

// Start runs one step. Most give a part; one that only prepares something gives
// nil. A step must end by itself when ctx does.
func (s *Supervisor) Start(ctx context.Context, name string, step func(context.Context) (Part, error)) error {
	begin := time.Now()
	p, err := step(ctx)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.log.Debug("started", "part", name, "took", time.Since(begin).Round(time.Millisecond))
	if p == nil {
		return nil
	}
	s.running = append(s.running, namedPart{name, p})
	go func() {
		<-p.Done()
		if err := p.Err(); err != nil {
			select {
			case s.failed <- fmt.Errorf("%s failed: %w", name, err):
			default: // another was first, and this one likely its consequence
			}
		}
	}()
	return nil
}

// Failed gives the first error of a part that ended unasked.
func (s *Supervisor) Failed() <-chan error { return s.failed }

// Stop stops all parts, the last started first, also when one of them fails to.
func (s *Supervisor) Stop() error {
	var errs []error
	for i := len(s.running) - 1; i >= 0; i-- {
		p := s.running[i]
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		begin := time.Now()
		if err := p.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.name, err))
		}
		cancel()
		s.log.Debug("stopped", "part", p.name, "took", time.Since(begin).Round(time.Millisecond))
	}
	s.running = nil
	return errors.Join(errs...)
}

type loop struct {
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	asked  bool
	err    error
}

// Loop runs fn, which runs until its context ends, as a part.
func Loop(fn func(context.Context) error) Part {
	ctx, cancel := context.WithCancel(context.Background())
	l := &loop{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		err := fn(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case l.asked && errors.Is(err, context.Canceled):
		case err == nil && !l.asked:
			l.err = errors.New("ended by itself")
		default:
			l.err = err
		}
	}()
	return l
}

func (l *loop) Done() <-chan struct{} { return l.done }

func (l *loop) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *loop) Stop(ctx context.Context) error {
	l.mu.Lock()
	l.asked = true
	l.mu.Unlock()
	l.cancel()
	select {
	case <-l.done:
		return l.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Held is a part that only has to be stopped: it lives inside this process and
// can not end by itself.
func Held(stop func(context.Context) error) Part {
	return &held{stop: stop, done: make(chan struct{})}
}

type held struct {
	stop func(context.Context) error
	done chan struct{}
}

func (h *held) Done() <-chan struct{} { return h.done }

func (h *held) Err() error { return nil }

func (h *held) Stop(ctx context.Context) error {
	defer close(h.done)
	return h.stop(ctx)
}
