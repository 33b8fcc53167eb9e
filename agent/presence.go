package agent

import (
	"bytes"
	"context"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

// infoRefresh is how often an unchanged DeviceInfo is written, in case the
// bucket lost it.
const infoRefresh = 6 * wire.RefreshInterval

// infoLoop writes what the device is: on connect, and when it changed.
func (a *Agent) infoLoop(ctx context.Context) {
	retry := backoff{first: time.Second, last: time.Minute}
	var sent []byte
	var due time.Time
	var err error
	for {
		force := false
		select {
		case <-ctx.Done():
			return
		case <-a.announce:
			force = true
		case <-time.After(jittered(a.timing.Info)):
		case <-retry.after(err):
			force = true
		}
		err = nil
		if !a.link.Up() {
			continue
		}
		data := mustJSON(a.info(ctx))
		if !force && bytes.Equal(data, sent) && time.Now().Before(due) {
			continue
		}
		if err = a.link.Put(ctx, wire.BucketInfo, wire.InfoKey(a.cfg.Device), data); err != nil {
			if ctx.Err() == nil && a.link.Up() {
				a.log.Warn("device info not reported", "error", err)
			}
			continue
		}
		sent, due = data, time.Now().Add(infoRefresh)
	}
}

func (a *Agent) info(ctx context.Context) wire.DeviceInfo {
	inventory := a.cfg.Inventory()
	inventory.AgentVersion = a.cfg.Version
	inventory.ContainerEngine = a.cfg.EngineName
	if version, err := a.cfg.Engine.Version(ctx); err == nil {
		inventory.PodmanVersion = version // while it is away the rest is still true
	}
	keys, revision := a.keys.trusted()
	return wire.DeviceInfo{
		SchemaVersion: wire.SchemaVersion, Device: a.cfg.Device, MachineID: a.cfg.MachineID,
		Labels: a.cfg.Labels, Inventory: inventory, StartedAt: a.started,
		SigningKeys: keys, KeysRevision: revision,
	}
}

// heartbeatLoop says that the agent is alive: on connect and then at the
// interval. Nothing is repeated: the next one says the same.
func (a *Agent) heartbeatLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.beat:
		case <-time.After(jittered(a.timing.Heartbeat)):
		}
		if !a.link.Up() {
			continue
		}
		h := wire.Heartbeat{SchemaVersion: wire.SchemaVersion, Device: a.cfg.Device, At: time.Now().UTC()}
		a.mu.Lock()
		if a.held != nil {
			h.Revision = a.held.Manifest.Revision
		}
		a.mu.Unlock()
		if err := a.link.Send(wire.BucketHeartbeat.Subject(wire.HeartbeatKey(a.cfg.Device)), mustJSON(h)); err != nil {
			a.log.Debug("heartbeat not sent", "error", err)
			continue
		}
		a.figures.heartbeats.Add(1)
	}
}
