// Package logging sends one log to three places: what matters to stderr, all of
// it to a file of bounded size, and its last lines to memory, where the error of
// a failed start can quote them.
package logging

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	fileMegabytes = 20
	filesKept     = 3
	linesKept     = 200
)

// Log is a log with a memory.
type Log struct {
	*slog.Logger

	file *lumberjack.Logger
	tail *tail
}

// Open opens the log file in dir, which has to exist. Stderr gets records of
// level and above.
func Open(dir string, stderr io.Writer, level slog.Level) *Log {
	l := &Log{
		file: &lumberjack.Logger{Filename: filepath.Join(dir, "fleet-server.log"), MaxSize: fileMegabytes, MaxBackups: filesKept},
		tail: &tail{},
	}
	l.Logger = slog.New(slog.NewMultiHandler(
		slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}),
		slog.NewTextHandler(io.MultiWriter(l.tail, l.file), &slog.HandlerOptions{Level: slog.LevelDebug}),
	))
	return l
}

// Path is the log file.
func (l *Log) Path() string { return l.file.Filename }

// Last gives the last n lines, oldest first.
func (l *Log) Last(n int) []string { return l.tail.last(n) }

// Close closes the file; a later record opens it again.
func (l *Log) Close() error { return l.file.Close() }

// tail keeps the last lines written. Handlers write a line a call.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) >= 2*linesKept {
		t.lines = append(t.lines[:0], t.lines[linesKept:]...)
	}
	t.lines = append(t.lines, strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

func (t *tail) last(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	n = min(n, linesKept, len(t.lines))
	return append([]string(nil), t.lines[len(t.lines)-n:]...)
}
