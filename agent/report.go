package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// settleTime is how long a report waits for more changes of the same moment.
const settleTime = 20 * time.Millisecond

// since remembers when a deployment entered its phase.
type since struct {
	phase wire.Phase
	at    time.Time
}

// reportLoop writes the device's state when it changed, after a connect, and
// every few minutes in case the bucket lost it.
func (a *Agent) reportLoop(ctx context.Context) {
	phases := map[string]since{}
	retry := backoff{first: time.Second, last: time.Minute}
	var sent []byte
	var due time.Time
	var during uint64 // how many connects there had been when it was sent
	var err error
	var status string
	for {
		a.pulse.beat("report")
		if now := a.statusText(); now != status {
			status = now
			a.cfg.Supervisor.Status(status)
		}
		select {
		case <-ctx.Done():
			a.finalReport(phases, sent)
			return
		case <-a.report:
		case <-a.cfg.Engine.Changed():
		case <-time.After(min(jittered(a.timing.State), a.timing.Tick)):
		case <-retry.after(err):
		}
		sleep(ctx, settleTime)
		err = nil
		if !a.link.Up() {
			continue
		}
		// What was known there may be gone after an outage, also after one that
		// was over before anybody looked here.
		connects := a.figures.connects.Load()
		data := a.stateJSON(phases)
		if connects == during && bytes.Equal(withoutTime(data), sent) && time.Now().Before(due) {
			continue
		}
		if err = a.link.Put(ctx, wire.BucketState, wire.StateKey(a.cfg.Device), data); err != nil {
			if ctx.Err() == nil && a.link.Up() {
				a.log.Warn("state not reported", "error", err)
			}
			continue
		}
		a.figures.reports.Add(1)
		sent, due, during = withoutTime(data), time.Now().Add(jittered(a.timing.State)), connects
	}
}

// finalReport sends what changed since the last report, without waiting for an
// answer: the agent is being stopped.
func (a *Agent) finalReport(phases map[string]since, sent []byte) {
	data := a.stateJSON(phases)
	if !a.link.Up() || bytes.Equal(withoutTime(data), sent) {
		return
	}
	if err := a.link.Send(wire.BucketState.Subject(wire.StateKey(a.cfg.Device)), data); err != nil {
		a.log.Warn("last state not reported", "error", err)
	}
}

// stateJSON is the report as it is now, within the bucket's limit.
func (a *Agent) stateJSON(phases map[string]since) []byte {
	s := a.state(phases)
	data := mustJSON(s)
	limit := int(wire.BucketState.MaxValueBytes())
	if len(data) <= limit {
		return data
	}
	for i := range s.Deployments {
		s.Deployments[i].Services = nil
	}
	for n := len(s.Deployments); ; n = n * 3 / 4 {
		s.Deployments = s.Deployments[:n]
		s.Error = fmt.Sprintf("the report is shortened: it would have %d bytes, and the most is %d", len(data), limit)
		if short := mustJSON(s); len(short) <= limit || n == 0 {
			return short
		}
	}
}

// state puts together the engine's view and what the agent itself knows.
func (a *Agent) state(phases map[string]since) wire.DeviceState {
	deployments := a.cfg.Engine.States()
	now := time.Now().UTC()
	a.mu.Lock()
	defer a.mu.Unlock()
	s := wire.DeviceState{SchemaVersion: wire.SchemaVersion, Device: a.cfg.Device, At: now, Deployments: deployments}
	if a.held != nil {
		s.Revision = a.held.Manifest.Revision
	}
	s.Error = text(errors.Join(a.faults.manifest, a.faults.disk, a.faults.engine))
	s.Error = wire.ClipMessage(s.Error)
	s.Refusal = wire.RefusalOf(a.faults.manifest)
	if w, able := a.cfg.Engine.(Warner); able {
		for _, warning := range w.Warnings() {
			s.Warnings = append(s.Warnings, wire.ClipMessage(warning))
		}
	}
	seen := map[string]bool{}
	for i := range deployments {
		d := &deployments[i]
		if err := errors.Join(a.broken[d.Name], a.fetch[d.Name]); err != nil && d.UID == "" {
			d.Phase, d.Message = wire.PhaseFailed, wire.ClipMessage(err.Error())
		}
		if p, known := phases[d.Name]; !known || p.phase != d.Phase {
			phases[d.Name] = since{d.Phase, now}
		}
		d.Since = phases[d.Name].at
		seen[d.Name] = true
	}
	for name := range phases {
		if !seen[name] {
			delete(phases, name)
		}
	}
	return s
}

// withoutTime is a report without the moment it was made, to compare two.
func withoutTime(data []byte) []byte {
	var s wire.DeviceState
	if err := json.Unmarshal(data, &s); err != nil {
		return data
	}
	s.At = time.Time{}
	return mustJSON(s)
}

// mustJSON encodes a payload of package wire, which always can be: a failure
// is a programming error that every test would show.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return data
}
