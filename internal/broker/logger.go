package broker

import (
	"fmt"
	"log/slog"
	"strings"
)

// logger gives nats-server's log to slog. What one client did wrong is not
// this server's error, and the callout's audit line already says who it was.
type logger struct{ log *slog.Logger }

func (l logger) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l logger) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v...) }
func (l logger) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v...) }
func (l logger) Fatalf(format string, v ...any)  { l.write(slog.LevelError, format, v...) }
func (l logger) Debugf(string, ...any)           {}
func (l logger) Tracef(string, ...any)           {}

func (l logger) write(level slog.Level, format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.Contains(text, "cid:") || strings.HasPrefix(text, "Auth callout") {
		level = slog.LevelDebug
	}
	l.log.Log(nil, level, text) //nolint:staticcheck // nats-server's logger has no context
}
