package exposition

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Prometheus' own parser is the judge of the format.
func TestPageIsWhatPrometheusReads(t *testing.T) {
	var p Page
	p.Gauge("fleet_agent_connected", "Whether it is.", 1)
	p.Counter("fleet_agent_x_total", `A \ and
a line.`, 3, "a", "1", "b", `quo"te\`+"\n")
	p.Counter("fleet_agent_x_total", "Not said twice.", 1.5, "a", "2", "b", "")
	p.Time("fleet_agent_at", "When.", time.Time{})
	p.Time("fleet_agent_at", "When.", time.UnixMilli(1_700_000_000_500))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(p.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, p.String())
	}
	if f := families["fleet_agent_x_total"]; len(f.GetMetric()) != 2 || f.GetType().String() != "COUNTER" ||
		f.GetHelp() != "A \\ and\na line." || f.GetMetric()[0].GetLabel()[1].GetValue() != "quo\"te\\\n" || f.GetMetric()[1].GetCounter().GetValue() != 1.5 {
		t.Errorf("got %v", f)
	}
	if f := families["fleet_agent_at"]; len(f.GetMetric()) != 1 || f.GetMetric()[0].GetGauge().GetValue() != 1_700_000_000.5 {
		t.Errorf("got %v", f)
	}
}

func TestServe(t *testing.T) {
	dir, err := os.MkdirTemp("", "expo") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, address := range map[string]string{"unix socket": filepath.Join(dir, "s"), "loopback": "127.0.0.1:0"} {
		t.Run(name, func(t *testing.T) {
			first, err := Listen(address)
			if err != nil {
				t.Fatal(err)
			}
			if u, is := first.(*net.UnixListener); is { // as after a kill -9
				u.SetUnlinkOnClose(false)
				if info, err := os.Stat(address); err != nil || info.Mode().Perm() != 0o660 {
					t.Errorf("mode %v, error %v", info.Mode(), err)
				}
			}
			_ = first.Close()
			l, err := Listen(address)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				Serve(ctx, l, Source{
					Metrics: func(p *Page) { p.Gauge("x", "X.", 1) },
					Alive:   func() error { return nil },
					Ready:   func() error { return errors.New("not connected") },
				}, slog.New(slog.DiscardHandler))
			}()
			client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, l.Addr().Network(), l.Addr().String())
			}}}
			for path, want := range map[string]struct {
				code int
				body string
			}{
				"/metrics": {200, "x 1\n"}, "/healthz": {200, "ok\n"}, "/readyz": {503, "not connected\n"}, "/": {404, ""},
			} {
				response, err := client.Get("http://agent" + path)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if response.StatusCode != want.code || !strings.HasSuffix(string(body), want.body) {
					t.Errorf("%s: %d %q", path, response.StatusCode, body)
				}
			}
			cancel()
			<-done
			if response, err := client.Get("http://agent/healthz"); err == nil {
				_ = response.Body.Close()
				t.Error("still served")
			}
		})
	}
}

func TestListenLeavesFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Fatal("a file was taken for a socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
}
