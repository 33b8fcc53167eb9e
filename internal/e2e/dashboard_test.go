//go:build hosts && browser

package e2e

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/testhost"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
)

// TestDashboard has people look at a real device in a real Chromium, from the
// day it asks to join: what they do and see is in device.test.mjs, what
// happens to the device is here. Chromium is in a network where there is
// nobody but this server.
func TestDashboard(t *testing.T) {
	h := testhost.Start(t, testhost.Options{Suite: "bookworm", Podman: true, Hostname: "pi-a"})
	desk := testhost.Start(t, testhost.Options{Suite: "bookworm", Podman: true, Hostname: "desk"})
	c := startControlPlane(t)
	c.addUser(t, "otto", "fleet-operator")
	c.addUser(t, "vera", "fleet-viewer")
	reg := registry.Start(t, testhost.HarnessIP+":0")
	image := registry.PushApp(t, reg, "hello", "v1")
	c.agentImage(t, h, "pi-a")

	var join func() (string, error)
	steps := map[string]func(value string) any{
		"ask": func(string) any {
			var code string
			code, join = c.askToJoin(t, h, "--label site=lyon")
			return map[string]string{"code": code}
		},
		"asked": func(string) any {
			out, err := join()
			code, text, _ := strings.Cut(out, "\n")
			return map[string]any{"exit": code, "text": text, "failed": err != nil}
		},
		"complete": func(string) any { // the identity stays
			return c.onboard(t, h, "pi-a", "--label", "site=lyon", "--insecure-registry", reg.Addr()).Hosts[0].Changed
		},
		"deploy": func(string) any {
			return c.fleetctl(t, "deploy", "hello", "--image", image, "--selector", "site=lyon", "--port", "8080:8080")
		},
		"kill": func(string) any {
			return h.ShAs(t, "fleet-agent", "podman kill $(podman ps -q)")
		},
		"print": func(line string) any {
			resp, err := http.Post("http://"+net.JoinHostPort(h.IP(), "8080")+"/print/"+url.PathEscape(line), "", nil)
			if err != nil {
				return err.Error()
			}
			return resp.Body.Close()
		},
		"running": func(string) any {
			return h.ShAs(t, "fleet-agent", "podman ps -q") != ""
		},
		"unplug": func(string) any { h.NetworkDown(t); return nil },
		"plug":   func(string) any { h.NetworkUp(t); return nil },
		"device": func(string) any { return c.device(t, "pi-a") },
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{step}", func(w http.ResponseWriter, r *http.Request) {
		step := steps[r.PathValue("step")]
		if step == nil {
			http.NotFound(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(step(r.FormValue("value")))
	})
	listener, err := net.Listen("tcp", testhost.HarnessIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	control := &httptest.Server{Listener: listener, Config: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}}
	control.Start()
	defer control.Close()

	node := desk.Command(t.Context(), "node", "--test", "--test-reporter=spec", "device.test.mjs")
	node.Dir = "../dashboard/browsertest"
	node.Env = append(os.Environ(), "FLEET_URL="+c.endpoint(t, "apiURL"), "CONTROL_URL="+control.URL, "PASSWORD="+adminPassword, "PROFILE="+t.TempDir())
	var out bytes.Buffer
	node.Stdout, node.Stderr = &out, &out
	began := time.Now()
	if err := node.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Logf("%s\n%s", time.Since(began).Round(time.Second), &out)
}
