package serverapi

import (
	"errors"
	"net/http"

	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/internal/signing/rotation"
)

// FleetKeys tells a rotation which devices there are, who is connected, and
// what each trusts.
type FleetKeys struct {
	Registry interface{ Allowed() []registry.Entry }
	Presence interface {
		Connection(device string) (presence.Connection, bool)
	}
}

// Devices implements rotation.Fleet.
func (f FleetKeys) Devices() []rotation.Device {
	var out []rotation.Device
	for _, e := range f.Registry.Allowed() {
		_, connected := f.Presence.Connection(e.Device)
		out = append(out, rotation.Device{ID: e.Device, Keys: e.SigningKeys, Connected: connected})
	}
	return out
}

func (h *handlers) signingKey(call) (any, error) {
	s := h.cfg.Signing.Status()
	out := api.SigningKey{SchemaVersion: api.SchemaVersion, Phase: api.SigningIdle, Revision: s.Revision,
		Devices: len(s.Devices), Lacking: []api.LackingDevice{}}
	use := func(id, role string) {
		out.Keys = append(out.Keys, api.SigningKeyUse{ID: id, Role: role, Signs: id == s.Signs, Devices: s.Have(id)})
	}
	use(s.Current, "current")
	if s.Phase != signing.Idle {
		out.Phase, out.Began = api.SigningPhase(s.Phase), &s.Began
		use(s.Successor, "successor")
	}
	for _, d := range s.Lacking {
		out.Lacking = append(out.Lacking, api.LackingDevice{DeviceID: d.ID, Connected: d.Connected, Silent: len(d.Keys) == 0})
	}
	return out, nil
}

func (h *handlers) rotate(c call) (any, error) {
	return h.rotated(c, h.cfg.Signing.Begin(c.Context()))
}

func (h *handlers) finishRotation(c call) (any, error) {
	return h.rotated(c, h.cfg.Signing.Finish(c.Context(), false))
}

func (h *handlers) forceRotation(c call) (any, error) {
	return h.rotated(c, h.cfg.Signing.Finish(c.Context(), true))
}

func (h *handlers) cancelRotation(c call) (any, error) {
	return h.rotated(c, h.cfg.Signing.Cancel(c.Context()))
}

// rotated answers with how things are after a step, or why it was not made.
func (h *handlers) rotated(c call, err error) (any, error) {
	var lacking *rotation.LackingError
	switch {
	case err == nil:
		return h.signingKey(c)
	case errors.As(err, &lacking):
		return nil, fail(http.StatusConflict, api.CodeKeyLacking, err.Error(),
			"connect them, or off-board those that are no more; --force drops the old key all the same")
	case errors.Is(err, signing.ErrUnderWay):
		return nil, fail(http.StatusConflict, api.CodeRotation, err.Error(),
			"see how far it is with --status; end it with --finish or --cancel")
	case errors.Is(err, signing.ErrNotUnderWay):
		return nil, fail(http.StatusConflict, api.CodeRotation, err.Error(), "begin one with: fleetctl server rotate-signing-key")
	case errors.Is(err, signing.ErrReadOnly):
		return nil, fail(http.StatusConflict, api.CodeRotation, err.Error(),
			"this server only reads its keys, from a directory that somebody else keeps; docs/signing-keys.md says what to do")
	}
	return nil, err
}
