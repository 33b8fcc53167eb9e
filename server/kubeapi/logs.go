package kubeapi

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
)

// upstreamLogs judges what etcd and Kubernetes log, which is written for those
// who run just these. Their information is our detail, and so is every error
// they log on their way up or down: those are retries, or consequences of being
// stopped, and what really ends a start is returned. Only errors in between
// stay warnings.
type upstreamLogs struct {
	steady    atomic.Bool // between ready and stopping
	lastError atomic.Pointer[string]
	onFatal   atomic.Pointer[func(error)]
}

func (u *upstreamLogs) level(l slog.Level) slog.Level {
	if l >= slog.LevelError && u.steady.Load() {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// capture makes Kubernetes' code log to log. Klog has one logger a process, so
// the latest Server's is used.
func (u *upstreamLogs) capture(log *slog.Logger) {
	h := &judged{upstreamLogs: u, next: log.With("component", "kubernetes").Handler()}
	klog.SetLoggerWithOptions(logr.FromSlogHandler(h), klog.ContextualLogger(true))
	klog.OsExit = u.fatal
}

// fatal stands in for os.Exit, which upstream calls through klog.Fatal where it
// sees no way on: often only because it is being stopped while it starts. It
// makes that the failure of one part, which ends in order, and like os.Exit does
// not return to its caller.
func (u *upstreamLogs) fatal(int) {
	why := errors.New("it gave up")
	if text := u.lastError.Load(); text != nil {
		why = errors.New(*text)
	}
	if tell := u.onFatal.Load(); tell != nil {
		(*tell)(why)
	}
	runtime.Goexit()
}

// judged is a slog.Handler that levels records as upstreamLogs says.
type judged struct {
	*upstreamLogs
	next slog.Handler
}

func (j *judged) Enabled(ctx context.Context, l slog.Level) bool {
	// logr's V(1) and above come as levels below Info.
	return l >= slog.LevelInfo && j.next.Enabled(ctx, j.level(l))
}

func (j *judged) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		j.lastError.Store(&r.Message)
	}
	r.Level = j.level(r.Level)
	return j.next.Handle(ctx, r)
}

func (j *judged) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &judged{j.upstreamLogs, j.next.WithAttrs(attrs)}
}

func (j *judged) WithGroup(name string) slog.Handler {
	return &judged{j.upstreamLogs, j.next.WithGroup(name)}
}

// zapToSlog is a zap core that writes to slog: etcd logs with zap only.
type zapToSlog struct {
	*upstreamLogs
	log *slog.Logger
}

func (z *zapToSlog) Enabled(l zapcore.Level) bool {
	return l >= zapcore.InfoLevel && z.log.Enabled(context.Background(), z.slogLevel(l))
}

// slogLevel maps zap's levels, which are a quarter of slog's apart.
func (z *zapToSlog) slogLevel(l zapcore.Level) slog.Level { return z.level(slog.Level(l) * 4) }

func (z *zapToSlog) With(fields []zapcore.Field) zapcore.Core {
	return &zapToSlog{z.upstreamLogs, z.log.With(slogAttrs(fields)...)}
}

func (z *zapToSlog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if z.Enabled(e.Level) {
		return ce.AddCore(e, z)
	}
	return ce
}

func (z *zapToSlog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	z.log.Log(context.Background(), z.slogLevel(e.Level), e.Message, slogAttrs(fields)...)
	return nil
}

// Sync has nothing to do: slog does not buffer.
func (z *zapToSlog) Sync() error { return nil }

func slogAttrs(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	out := make([]any, 0, len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		v := enc.Fields[f.Key]
		if d, ok := v.(time.Duration); ok {
			v = d.String()
		}
		out = append(out, slog.Any(f.Key, v))
	}
	return out
}
