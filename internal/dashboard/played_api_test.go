package dashboard

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// playedAPI answers for devices of a played fleet as the HTTPS API would for
// an administrator.
func playedAPI(snapshot func() *fleet.Snapshot) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /v1/devices/{id}", func(w http.ResponseWriter, r *http.Request) {
		snap := snapshot()
		found, ok := snap.Device(r.PathValue("id"))
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer(w, api.ErrorBody{Error: api.Error{Code: api.CodeNotFound, Message: "no such device"}})
			return
		}
		since := time.Now().Add(-26 * time.Hour)
		d := api.Device{SchemaVersion: 1, DeviceID: found.Name, Connected: found.State == fleet.Ready, State: &wire.DeviceState{Device: found.Name}}
		if d.Connected {
			d.ConnectedSince, d.Address = &since, "198.51.100.24"
		}
		for i, x := range snap.DeploymentsOf(found) {
			if i == 6 {
				break
			}
			s := wire.DeploymentState{Name: x.Name, Generation: x.Generation, Phase: wire.PhaseRunning, Since: since}
			if x.Health == fleet.Failing {
				s.Phase, s.Message = wire.PhaseFailed, x.Status.Aggregate.LastError.Message
			}
			for _, service := range x.Spec.Score.Data.Services {
				one := wire.ServiceState{Name: service.Name, Phase: s.Phase, Image: service.Image}
				if s.Phase == wire.PhaseRunning {
					one.StartedAt = &since
				}
				s.Services = append(s.Services, one)
			}
			d.State.Deployments = append(d.State.Deployments, s)
		}
		answer(w, d)
	})
	mux.HandleFunc("GET /v1/audit", func(w http.ResponseWriter, r *http.Request) {
		var out api.Audit
		out.SchemaVersion, out.Intact = 1, true
		device := r.FormValue("device")
		for i, a := range []struct{ who, action, device, outcome string }{
			{"ada", "enrol", "pi-00007", "ok"}, {"otto", "ping", "pi-00007", "ok"}, {"otto", "restart signage", "nuc-00012", "ok"},
			{"vera", "ping", "pi-00033", "vera may not do this: it takes the role fleet-operator"}, {"otto", "logs camera-relay/camera-relay", "pi-00007", "begun"},
			{"otto", "logs camera-relay/camera-relay", "pi-00007", "ok"}, {"otto", "rollout pause default/sensor-gateway", "", "ok"}, {"otto", "rollout undo default/sensor-gateway to 4", "", "ok"},
			{"ada", "revoke", "mini-00402", "ok"}, {"otto", "ping", "pi-00310", "device pi-00310 is not connected"},
		} {
			r := audit.Record{Sequence: uint64(4180 + i), At: time.Now().Add(-time.Duration(400-37*i) * time.Minute), Who: a.who, Action: a.action, Device: a.device,
				From: "203.0.113.9", Outcome: a.outcome, Hash: fmt.Sprintf("%x", sha256.Sum256([]byte(a.action+a.who)))}
			if device == "" || device == r.Device {
				out.Records = append(out.Records, r)
			}
			out.Last, out.Hash = r.Sequence, r.Hash
		}
		answer(w, out)
	})
	mux.HandleFunc("GET /v1/joins", func(w http.ResponseWriter, _ *http.Request) {
		out := api.Joins{SchemaVersion: 1}
		for i, id := range []string{"pi-lyon-41", "nuc-porto-2", "pi-00007"} {
			asked := time.Now().Add(-time.Duration(2+5*i) * time.Minute)
			out.Requests = append(out.Requests, api.Join{ID: fmt.Sprint("request-", i), DeviceID: id, MachineID: "5d1e0b77", Address: "198.51.100.7", Asked: asked, Expires: asked.Add(time.Hour),
				Facts: join.Facts{Hostname: id, Architecture: arches[i], OS: "Debian GNU/Linux 12 (bookworm)", Model: models[i]}, Known: i == 2, OtherMachine: i == 2})
		}
		answer(w, out)
	})
	mux.HandleFunc("POST /v1/devices/{id}/commands/ping", func(w http.ResponseWriter, r *http.Request) {
		answer(w, api.Ping{SchemaVersion: 1, DeviceID: r.PathValue("id"), RoundTripMillis: 38.4})
	})
	for _, verb := range []string{"restart", "stop", "start"} {
		mux.HandleFunc("POST /v1/devices/{id}/commands/"+verb, func(http.ResponseWriter, *http.Request) {})
	}
	mux.HandleFunc("POST /v1/devices/{id}/commands/logs", func(w http.ResponseWriter, r *http.Request) {
		for i := 0; r.Context().Err() == nil; i++ {
			line := fmt.Sprintf("%s GET /stream/%d 200 %d ms\n", time.Now().UTC().Format("15:04:05.000"), i%7, 3+i%19)
			kind := byte(wire.FrameStdout)
			if i%23 == 9 {
				kind, line = wire.FrameStderr, "warn: upstream took 2.1 s <b>slow</b>\n"
			}
			header := make([]byte, wire.FrameHeaderBytes)
			header[0] = kind
			binary.BigEndian.PutUint32(header[4:], uint32(len(line)))
			if _, err := w.Write(append(header, line...)); err != nil {
				return
			}
			if i > 40 {
				time.Sleep(400 * time.Millisecond)
			}
		}
	})
	return mux
}

// noAudit takes no record.
type noAudit struct{}

func (noAudit) Usable() error { return errors.New("no record is kept here") }
func (noAudit) Append(audit.Record, time.Time) (audit.Record, error) {
	return audit.Record{}, errors.New("no record is kept here")
}
