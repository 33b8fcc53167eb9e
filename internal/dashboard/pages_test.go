package dashboard

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// TestEveryPage: each answers, with HTML that is whole.
func TestEveryPage(t *testing.T) {
	f := played(t)
	b := f.signedIn("ada")
	for _, path := range []string{"/", "/?by=site", "/?by=nonsense", "/devices", "/devices?sort=seen&order=desc&page=2", "/devices?selector=site+in+(lyon,paris),tier!%3Dlab",
		"/devices?state=offline&name=pi", "/devices?page=9999", "/devices/pi-00007", "/devices/pi-00007?logs=signage/signage", "/deployments", "/deployments?health=failing&sort=failed",
		"/deployments/default/signage", "/deployments/default/signage?by=tier", "/audit", "/audit?device=pi-00007&since=24h"} {
		a := f.get(b, path, nil)
		if a.status != http.StatusOK || !strings.HasSuffix(a.body, "</html>") {
			t.Errorf("%s: %d", path, a.status)
		}
		if strings.Contains(a.body, "style=") || strings.Contains(a.body, "<script>") || strings.Contains(a.body, "onclick") {
			t.Errorf("%s has something inline", path)
		}
	}
	for path, status := range map[string]int{
		"/devices?selector=site+in+lyon": http.StatusBadRequest, "/devices?state=well": http.StatusBadRequest, "/devices/no-such": http.StatusNotFound,
		"/deployments/default/no-such": http.StatusNotFound, "/audit?since=yesterday": http.StatusBadRequest, "/nothing": http.StatusNotFound,
		"/devices?selector=" + strings.Repeat("a", 2000): http.StatusBadRequest,
	} {
		if a := f.get(b, path, nil); a.status != status {
			t.Errorf("%.60s: %d, not %d", path, a.status, status)
		}
	}
}

func TestExports(t *testing.T) {
	f := played(t)
	b := f.signedIn("ada")
	for _, path := range []string{"/devices", "/problems", "/deployments", "/audit", "/devices/pi-00007/deployments", "/devices/pi-00007/history", "/deployments/default/signage/revisions"} {
		var v map[string]any
		if a := f.get(b, path+".json", nil); a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &v) != nil || v["schemaVersion"] != 1.0 {
			t.Errorf("%s.json: %d %.80s", path, a.status, a.body)
		}
		a := f.get(b, path+".csv", nil)
		if _, err := csv.NewReader(strings.NewReader(a.body)).ReadAll(); err != nil || a.status != http.StatusOK {
			t.Errorf("%s.csv: %d %v", path, a.status, err)
		}
	}
	all := must(csv.NewReader(strings.NewReader(f.get(b, "/devices.csv", nil).body)).ReadAll())(t)
	some := must(csv.NewReader(strings.NewReader(f.get(b, "/devices.csv?selector=site%3Dlyon", nil).body)).ReadAll())(t)
	if len(all) != 301 || len(some) < 2 || len(some) > 100 {
		t.Errorf("%d rows of all, %d of lyon", len(all), len(some))
	}
}

// hostile is what a device may call itself.
const hostile = `=cmd|'/c calc'!A1"><script>alert(1)</script><img src=x onerror=alert(2)>`

func hostileDevice(name string) *v1alpha1.Device {
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Now()}}
	d.Status.Inventory = v1alpha1.Inventory{Hostname: hostile, Model: hostile, OS: hostile, Kernel: hostile, Architecture: hostile, AgentVersion: hostile}
	d.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonHeartbeatMissed, Message: hostile, LastTransitionTime: metav1.Now()},
		{Type: v1alpha1.ConditionWarning, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAgentWarns, Message: "disk " + hostile, LastTransitionTime: metav1.Now()}}
	return d
}

func TestHostileReports(t *testing.T) {
	f := played(t)
	f.store.PutDevice(hostileDevice("evil"))
	b := f.signedIn("ada")
	for _, path := range []string{"/", "/devices?name=evil", "/devices/evil", "/devices?selector=" + url.QueryEscape(hostile), "/devices?name=" + url.QueryEscape(hostile)} {
		a := f.get(b, path, nil)
		if strings.Contains(a.body, "<script>alert") || strings.Contains(a.body, "<img src=x") {
			t.Errorf("%s: what a device says is markup", path)
		}
	}
	if page := f.get(b, "/devices/evil", nil).body; !strings.Contains(page, "Its agent warns: disk =cmd") {
		t.Error("the page does not show what the agent warns of")
	}
	for _, row := range must(csv.NewReader(strings.NewReader(f.get(b, "/devices.csv?name=evil", nil).body)).ReadAll())(t)[1:] {
		for _, cell := range row {
			if strings.HasPrefix(cell, "=") {
				t.Errorf("a formula in a cell: %q", cell)
			}
		}
	}
}

func TestLogLinesAreText(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext":                        "plain\ttext",
		"\x1b[31mred\x1b[0m \x1b]0;title\a!": "red !",
		"a\x00b\x7f\u202egnp.exe":            "a\ufffdb\ufffd\ufffdgnp.exe",
		"\x1b[2Jgone":                        "gone",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
	lines := newLogLines(t.Context())
	out := lines.stream("err")
	if _, err := out.Write([]byte("<script>x</script>\r\nhalf")); err != nil {
		t.Fatal(err)
	}
	html, _ := lines.take()
	if string(html) != `<span class="line err">&lt;script&gt;x&lt;/script&gt;</span>` {
		t.Errorf("%s", html)
	}
	if _, err := out.Write([]byte(strings.Repeat("x", 3*maxLogLine))); err != nil {
		t.Fatal(err)
	}
	if html, _ = lines.take(); strings.Count(string(html), "<span") != 3 {
		t.Errorf("a long line became %d", strings.Count(string(html), "<span"))
	}
}

// stream reads events of a live view until next gives one that holds text.
func (f *fixture) stream(b *http.Client, path string) (next func(text string) time.Duration) {
	f.t.Helper()
	req := must(http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.url+path, nil))(f.t)
	resp := must(b.Do(req))(f.t)
	f.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		f.t.Fatalf("%s: %s", path, resp.Status)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(resp.Body)
		scanner.Buffer(nil, 4<<20)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
	}()
	return func(text string) time.Duration {
		f.t.Helper()
		began := time.Now()
		deadline := time.After(10 * time.Second)
		for {
			select {
			case line, ok := <-lines:
				if !ok {
					f.t.Fatalf("the stream ended before %q", text)
				}
				if strings.Contains(line, text) {
					return time.Since(began)
				}
			case <-deadline:
				f.t.Fatalf("no event with %q", text)
			}
		}
	}
}

func TestPagesAreLive(t *testing.T) {
	f := played(t)
	b := f.signedIn("ada")
	list, overview := f.stream(b, "/live/devices?name=late"), f.stream(b, "/live/")
	d := hostileDevice("late-1")
	d.Status.Conditions[0].Message = "it fell silent"
	f.store.PutDevice(d)
	list("late-1")
	overview("late-1 is silent")
	f.store.DeleteDevice("late-1")
	list("No device matches")
	logs := f.stream(b, "/live/devices/pi-00007/logs?deployment=signage&service=signage")
	logs("GET /stream/3")
	logs("&lt;b&gt;slow")
}

// TestSilentDevice: that a device does not answer is on its page before the
// server knows that its connection is gone.
func TestSilentDevice(t *testing.T) {
	var silent atomic.Bool
	mux := http.NewServeMux()
	f := start(t, "127.0.0.1:0", mux)
	play(f.store, 40, 4)
	mux.Handle("/", playedAPI(f.store.Snapshot))
	mux.HandleFunc("GET /v1/devices/{id}/probe", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if silent.Load() {
			w.WriteHeader(http.StatusGatewayTimeout)
			_ = json.NewEncoder(w).Encode(api.ErrorBody{Error: api.Error{Code: api.CodeDeviceNoAnswer, Message: "the device did not answer in time"}})
			return
		}
		_ = json.NewEncoder(w).Encode(api.Ping{SchemaVersion: api.SchemaVersion, DeviceID: r.PathValue("id"), RoundTripMillis: 38})
	})
	var ready string
	for _, d := range f.store.Snapshot().Devices {
		if d.State == fleet.Ready {
			ready = d.Name
		}
	}
	page := f.stream(f.signedIn("vera"), "/live/devices/"+ready)
	page("badge ready")
	silent.Store(true)
	page("No answer")
	silent.Store(false)
	page("badge ready")
}

// TestStreamsEndWithTheServer, so that it can stop.
func TestStreamsEndWithTheServer(t *testing.T) {
	f := played(t)
	b := f.signedIn("ada")
	resp := must(b.Get(f.url + "/live/devices"))(t)
	defer resp.Body.Close()
	f.Stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); {
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Error("the stream goes on")
	}
}

func TestDiffHidesSecrets(t *testing.T) {
	f := played(t)
	score := func(image, value string) *v1alpha1.Score {
		return &v1alpha1.Score{Type: wire.ScorePodmanV0, Data: v1alpha1.ScoreData{Services: []v1alpha1.Service{{Name: "web", Image: image, Env: []v1alpha1.EnvVar{{Name: "PASSWORD", Value: value}, {Name: "SAME", Value: "s"}}}}}}
	}
	var text strings.Builder
	changed := map[string]int{}
	for _, l := range f.diffScores(score("web:1", "hunter2"), score("web:2", "hunter3")) {
		text.WriteString(l.Text + "\n")
		changed[l.Sign]++
	}
	if strings.Contains(text.String(), "hunter") || changed["+"] != 2 || changed["-"] != 2 {
		t.Errorf("%v\n%s", changed, text.String())
	}
	if d := f.diffScores(score("web:1", "a"), score("web:1", "a")); d != nil {
		t.Errorf("a score differs from itself: %v", d)
	}
}
