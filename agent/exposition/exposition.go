// Package exposition shows an agent's figures to a monitoring system on the same
// device: Prometheus' text format over HTTP, on a unix socket or a loopback port.
// The format is written by hand, since Prometheus' library would be a third of the
// agent. What the figures are is package agent's.
package exposition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// contentType is that of Prometheus' text format, version 0.0.4.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

const timeout = 5 * time.Second

// socketMode lets the agent's user and group ask.
const socketMode = 0o660

// Page is one answer to a scrape. Figures of one name have to be added one after
// another.
type Page struct {
	out  bytes.Buffer
	name string // of the figure added last
}

// Gauge adds a figure that goes up and down. labels are pairs of name and value.
func (p *Page) Gauge(name, help string, v float64, labels ...string) {
	p.add("gauge", name, help, v, labels)
}

// Counter adds a figure that only grows.
func (p *Page) Counter(name, help string, v float64, labels ...string) {
	p.add("counter", name, help, v, labels)
}

// Time adds a moment as Unix time in seconds, unless it is zero.
func (p *Page) Time(name, help string, at time.Time) {
	if !at.IsZero() {
		p.Gauge(name, help, float64(at.UnixMilli())/1000)
	}
}

var (
	helpEscapes  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	labelEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

func (p *Page) add(kind, name, help string, v float64, labels []string) {
	if p.name != name {
		p.name = name
		fmt.Fprintf(&p.out, "# HELP %s %s\n# TYPE %s %s\n", name, helpEscapes.Replace(help), name, kind)
	}
	p.out.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		p.out.WriteByte("{,"[min(i, 1)])
		p.out.WriteString(labels[i] + `="` + labelEscapes.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 1 {
		p.out.WriteByte('}')
	}
	p.out.WriteByte(' ')
	p.out.WriteString(strconv.FormatFloat(v, 'g', -1, 64))
	p.out.WriteByte('\n')
}

// String is the page as it is sent.
func (p *Page) String() string { return p.out.String() }

// Listen opens where an agent is asked: address is the path of a unix socket, or
// HOST:PORT of loopback. A socket that an earlier process left is replaced.
func Listen(address string) (net.Listener, error) {
	if !strings.HasPrefix(address, "/") {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen for scrapes: %w", err)
		}
		return l, nil
	}
	if info, err := os.Lstat(address); err == nil && info.Mode()&fs.ModeSocket == 0 {
		return nil, fmt.Errorf("listen for scrapes: %s is there, and no socket", address)
	}
	if err := os.Remove(address); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen for scrapes: %w", err)
	}
	l, err := net.Listen("unix", address)
	if err != nil {
		return nil, fmt.Errorf("listen for scrapes: %w", err)
	}
	if err := os.Chmod(address, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for scrapes: %w", err), l.Close())
	}
	return l, nil
}

// Source is what is shown.
type Source struct {
	Metrics func(*Page)
	Alive   func() error // for /healthz: nil while the process should go on
	Ready   func() error // for /readyz: nil while it does its work
}

// Serve answers on l until ctx ends, and closes it.
func Serve(ctx context.Context, l net.Listener, s Source, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var page Page
		s.Metrics(&page)
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(page.out.Bytes()) // the scraper is gone, or it is not
	})
	check := func(is func() error) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if err := is(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			_, _ = w.Write([]byte("ok\n"))
		}
	}
	mux.HandleFunc("GET /healthz", check(s.Alive))
	mux.HandleFunc("GET /readyz", check(s.Ready))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		log.Warn("metrics are no longer served", "error", err)
	}
}
