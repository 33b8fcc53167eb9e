//go:build hosts

package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/testhost/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Remote hands on real containers of a real Podman.
func TestHandsOnPodman(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		t.Run(suite, func(t *testing.T) {
			d := newDevice(t, suite)
			image := registry.PushApp(t, d.registry, "hello", "v1")
			d.fleet.deploy("web", 1, wire.Service{Name: "s", Image: image, Ports: []string{"8080:8080"}})
			d.fleet.await("running", phase("web", 1, wire.PhaseRunning))
			sender := commands.NewSender(d.fleet.api, signer{d.fleet})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			started := func() (id, at string) {
				t.Helper()
				var got bytes.Buffer
				err := sender.Stream(ctx, request(wire.VerbInspect, aboutWeb), func(p []byte) error { got.Write(p); return nil })
				var all []struct {
					ID    string `json:"Id"`
					State struct{ StartedAt, Status string }
				}
				if err != nil || json.Unmarshal(got.Bytes(), &all) != nil || len(all) != 1 || all[0].State.Status != "running" {
					t.Fatalf("inspect: %v: %s", err, got.Bytes())
				}
				return all[0].ID, all[0].State.StartedAt
			}
			id, at := started()
			if err := sender.Stream(ctx, request(wire.VerbRestart, aboutWeb), func([]byte) error { return nil }); err != nil {
				t.Fatalf("restart: %v", err)
			}
			if idAfter, atAfter := started(); idAfter != id || atAfter == at {
				t.Errorf("after the restart: container %s since %s, before %s since %s", idAfter, atAfter, id, at)
			}
			if page := d.page(8080, "/"); !strings.Contains(page, "version v1") {
				t.Errorf("page: %s", page)
			}

			// Followed until the caller goes.
			want := strings.TrimSpace(d.user("podman logs fleet-web-s 2>&1 | head -1"))
			if want == "" {
				t.Fatal("the app prints nothing")
			}
			following, stop := context.WithCancel(ctx)
			defer stop()
			var got bytes.Buffer
			began := time.Now()
			err := sender.Stream(following, request(wire.VerbLogs, `{"deployment":"web","follow":true}`), func(p []byte) error {
				if got.Write(p); strings.Contains(got.String(), want) {
					t.Logf("first line after %s", time.Since(began).Round(time.Millisecond))
					stop()
				}
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("logs: %v: %q", err, got.String())
			}
		})
	}
}
