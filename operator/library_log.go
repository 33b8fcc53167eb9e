package operator

import (
	"context"
	"log/slog"
	"strings"

	"github.com/go-logr/logr"
)

// libraryLog is the logger for controller-runtime. Which of its controllers
// start and stop is our detail, so what it tells as information is debugging
// output here; its warnings and errors stay.
func libraryLog(log *slog.Logger) logr.Logger {
	return logr.FromSlogHandler(&quieter{log.Handler()})
}

// quieter is a slog.Handler that lowers information to slog.LevelDebug.
type quieter struct{ next slog.Handler }

// Enabled cannot see the message, so Handle decides about information.
func (q *quieter) Enabled(ctx context.Context, l slog.Level) bool { return q.next.Enabled(ctx, l) }

func (q *quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = libraryLevel(r.Level, r.Message)
	if !q.next.Enabled(ctx, r.Level) {
		return nil
	}
	return q.next.Handle(ctx, r)
}

// libraryLevel is ours for one of the library's lines. logr has no warnings:
// the library writes them as information that begins with the word. Its V(1)
// and above come as levels below slog.LevelInfo.
func libraryLevel(l slog.Level, message string) slog.Level {
	switch {
	case l > slog.LevelInfo:
		return l
	case l == slog.LevelInfo && strings.HasPrefix(strings.ToLower(message), "warn"):
		return slog.LevelWarn
	default:
		return min(l, slog.LevelDebug)
	}
}

func (q *quieter) WithAttrs(attrs []slog.Attr) slog.Handler { return &quieter{q.next.WithAttrs(attrs)} }

func (q *quieter) WithGroup(name string) slog.Handler { return &quieter{q.next.WithGroup(name)} }
