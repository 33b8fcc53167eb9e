package agent_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Counts makes the tests' engine one that counts.
func (e *engine) Counts() (created, started, exited, repaired uint64) { return 4, 3, 2, 1 }

// ask gives what an agent answers on its socket.
func ask(t *testing.T, at net.Addr, path string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, at.Network(), at.String())
		}}}
	response, err := client.Get("http://agent" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, string(must(io.ReadAll(response.Body))(t))
}

func TestMetrics(t *testing.T) {
	f := newFleet(t, "127.0.0.1")
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	r := f.runMeasured(t.TempDir(), l)
	f.deploy("hello", 1, web)
	s := f.await("the deployment", phase("hello", 1, wire.PhaseRunning))

	wants := []string{
		`fleet_agent_info{device="` + deviceID + `",version=`, "fleet_agent_connected 1\n", "fleet_agent_connects_total 1\n",
		`fleet_agent_deployments{phase="Running"} 1`, `fleet_agent_fault{part="engine"} 0`, "fleet_agent_drift_repairs_total 1\n",
		"fleet_agent_containers_created_total 4\n", "process_resident_memory_bytes ",
	}
	code, page := ask(t, l.Addr(), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, page)
	}
	for _, want := range wants {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	var revision float64
	if _, err := fmt.Sscan(after(page, "\nfleet_agent_revision "), &revision); err != nil || uint64(revision) != uint64(float64(s.Revision)) {
		t.Errorf("revision %v, reported was %d", revision, s.Revision)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := ask(t, l.Addr(), path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}

	docs := string(must(os.ReadFile("../docs/monitoring.md"))(t))
	for _, m := range regexp.MustCompile(`(?m)^# TYPE fleet_agent(\S+)`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(docs, m[1]) && !strings.Contains(docs, strings.TrimPrefix(m[1], "_containers")) {
			t.Errorf("docs/monitoring.md does not tell of fleet_agent%s", m[1])
		}
	}

	f.stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		code, body := ask(t, l.Addr(), "/readyz")
		if code == http.StatusServiceUnavailable && strings.Contains(body, "not connected") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("without a broker: %d %s", code, body)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if code, body := ask(t, l.Addr(), "/healthz"); code != http.StatusOK {
		t.Errorf("without a broker the agent is not healthy: %d %s", code, body)
	}
	r.stop()
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("a stopped agent listens")
	}
}

func after(s, mark string) string {
	_, rest, _ := strings.Cut(s, mark)
	return rest
}
