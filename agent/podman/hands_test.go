package podman

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/wire"
)

func TestHands(t *testing.T) {
	f := newFake(t)
	var asked url.Values
	f.serve("GET /containers/{id}/logs", func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query()
		_, _ = w.Write([]byte("\x01\x00\x00\x00\x00\x00\x00\x02hi"))
	})
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a"), service("b", "x/b")), desired(t, "one", 1, service("s", "x/s")))
	f.await(r, "running", func(s map[string]wire.DeploymentState) bool { return everyPhase(s, 2, wire.PhaseRunning) })
	ctx := t.Context()

	var out bytes.Buffer
	if err := r.Logs(ctx, wire.LogsRequest{Target: wire.Target{Deployment: "one"}, Tail: 5, SinceSeconds: 60}, &out); err != nil || !strings.HasSuffix(out.String(), "hi") {
		t.Errorf("logs: %q, %v", out.String(), err)
	}
	if asked.Get("tail") != "5" || asked.Get("follow") != "false" || asked.Get("since") == "" {
		t.Errorf("asked Podman for %v", asked)
	}
	for target, want := range map[wire.Target]struct {
		code wire.ReplyCode
		text string
	}{
		{Deployment: "web"}:                  {wire.ReplyBadRequest, "a, b"},
		{Deployment: "web", Service: "nope"}: {wire.ReplyNotFound, "no service nope"},
		{Deployment: "nope"}:                 {wire.ReplyNotFound, "not on this device"},
	} {
		var typed *wire.ReplyError
		if err := r.Logs(ctx, wire.LogsRequest{Target: target}, &out); !errors.As(err, &typed) || typed.Code != want.code || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%v: %v", target, err)
		}
	}

	data, err := r.Inspect(ctx, wire.Target{Deployment: "web"})
	var all []Container
	if err != nil || json.Unmarshal(data, &all) != nil || len(all) != 2 {
		t.Errorf("inspect: %s, %v", data, err)
	}

	before := len(f.changes())
	f.add("fleet-web-b", "running", map[string]string{labelDeployment: "web", labelService: "b"}) // not ours
	if err := r.Restart(ctx, wire.Target{Deployment: "web", Service: "b"}); err != nil {
		t.Fatal(err)
	}
	// A worker may be first to start it again, which does no harm.
	if got := slices.Compact(f.changes()[before:]); !slices.Equal(got, []string{"stop fleet-web-b", "start fleet-web-b"}) {
		t.Errorf("changes %v", got)
	}
}

// A command goes straight to the container that is known to run, and is tried
// once more where that turns out to be another one by now.
func TestExecInWhatIsKnownToRun(t *testing.T) {
	f := newFake(t)
	creates, stale := 0, false
	f.serve("POST /containers/{id}/exec", func(w http.ResponseWriter, _ *http.Request) {
		creates++
		if stale {
			stale = false
			w.WriteHeader(http.StatusConflict)
			return
		}
		_, _ = w.Write([]byte(`{"Id":"e"}`))
	})
	f.serve("POST /exec/e/start", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // the output's end
		_, _ = w.Write([]byte("\x01\x00\x00\x00\x00\x00\x00\x02hi"))
	})
	f.serve("GET /exec/e/json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"ExitCode":3}`)) })
	r := f.runtime()
	f.apply(r, desired(t, "web", 1, service("a", "x/a")))
	f.await(r, "running", func(s map[string]wire.DeploymentState) bool { return everyPhase(s, 1, wire.PhaseRunning) })
	for want := 1; want <= 2; want++ {
		creates, stale = 0, want == 2
		var out bytes.Buffer
		code, err := r.Exec(t.Context(), wire.ExecRequest{Target: wire.Target{Deployment: "web"}, Command: []string{"x"}}, nil, &out)
		if err != nil || code != 3 || !strings.HasSuffix(out.String(), "hi") || creates != want {
			t.Errorf("code %d, %q, %v; asked %d times, want %d", code, out.String(), err, creates, want)
		}
	}
}
