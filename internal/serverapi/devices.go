package serverapi

import (
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/nationtech/fleetctl/internal/broker/kv"
	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/machineid"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/registry"
	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	commandTimeout = 10 * time.Second
	kickTimeout    = 5 * time.Second
	maxSubject     = 255 // bytes (OpenID Connect Core 1.0, 2)
)

// enrol registers an id for a machine and gives what makes it a device. Asking
// again for the same machine gives the same.
func (h *handlers) enrol(c call) (any, error) {
	req, err := enrolmentRequest(c)
	if err != nil {
		return nil, err
	}
	if err := h.register(c, req); err != nil {
		return nil, err
	}
	return h.enrolment(c, true), nil
}

func (h *handlers) register(c call, req api.EnrolmentRequest) error {
	if _, err := h.cfg.Registry.Enrol(c.Context(), h.request(c, req), time.Now()); err != nil {
		return enrolmentRefused(err)
	}
	if req.Replace {
		// The machine that had the id must not stay on with it.
		return h.disconnect(c)
	}
	return nil
}

// preview gives what enrol would, and registers nothing.
func (h *handlers) preview(c call) (any, error) {
	req, err := enrolmentRequest(c)
	if err != nil {
		return nil, err
	}
	registered, err := h.cfg.Registry.Enrolled(h.request(c, req))
	if err != nil {
		return nil, enrolmentRefused(err)
	}
	return h.enrolment(c, registered), nil
}

func enrolmentRequest(c call) (req api.EnrolmentRequest, err error) {
	if err := decode(c.Request, &req); err != nil {
		return req, err
	}
	if !machineid.Valid(req.MachineID) {
		return req, fail(http.StatusBadRequest, api.CodeBadRequest,
			"machineId is not 32 lower-case hex digits", "check that the machine has a proper /etc/machine-id")
	}
	if !sealingKey(req.SealingKey) {
		return req, fail(http.StatusBadRequest, api.CodeBadRequest, "sealingKey is not an X25519 public key in base64", "")
	}
	if len(req.Subject) > maxSubject || strings.ContainsFunc(req.Subject, func(r rune) bool { return r <= ' ' || r == unicode.ReplacementChar || !unicode.IsPrint(r) }) {
		return req, fail(http.StatusBadRequest, api.CodeBadRequest, "subject is no name of a user of an issuer", "")
	}
	return req, nil
}

// sealingKey says whether s is a key, or none.
func sealingKey(s string) bool {
	if s == "" {
		return true
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return false
	}
	_, err = ecdh.X25519().NewPublicKey(raw)
	return err == nil
}

func (h *handlers) request(c call, req api.EnrolmentRequest) registry.Request {
	return registry.Request{Device: c.device, MachineID: req.MachineID, SealingKey: req.SealingKey, Subject: req.Subject, Replace: req.Replace}
}

func enrolmentRefused(err error) error {
	switch {
	case errors.Is(err, registry.ErrOtherMachine):
		return fail(http.StatusConflict, api.CodeOtherMachine, err.Error(),
			"choose another id with --device-id; if this machine takes the other's place, offboard the other first")
	case errors.Is(err, registry.ErrLeaving):
		return fail(http.StatusConflict, api.CodeDeviceLeaving, err.Error(), "try again in a moment")
	}
	return err
}

func (h *handlers) enrolment(c call, registered bool) api.Enrolment {
	e := api.Enrolment{
		SchemaVersion: api.SchemaVersion,
		DeviceID:      c.device,
		NATSURLs:      h.cfg.NATSURLs,
		CAPEM:         string(h.cfg.CAPEM),
		SigningKeys:   h.cfg.Signing.Pinned(),
		Registered:    registered,
	}
	if h.cfg.PSK != nil {
		e.PSK = api.Secret(h.cfg.PSK(c.device))
	}
	if i := h.cfg.SignIn; i.Issuer != "" {
		e.Issuer = &api.DeviceIssuer{URL: i.Issuer, ProjectID: i.ProjectID, CAPEM: i.CAPEM}
	}
	return e
}

// revoke shuts a device out: first the callout denies it, then it is
// disconnected.
func (h *handlers) revoke(c call) (any, error) {
	_, err := h.cfg.Registry.Revoke(c.Context(), c.device, time.Now())
	if errors.Is(err, registry.ErrUnknown) {
		return nil, unknown(c.device)
	}
	if err != nil {
		return nil, err
	}
	if err := h.disconnect(c); err != nil {
		return nil, err
	}
	return h.getDevice(c)
}

func (h *handlers) disconnect(c call) error {
	ctx, cancel := context.WithTimeout(c.Context(), kickTimeout)
	defer cancel()
	return h.cfg.Presence.Disconnect(ctx, c.device)
}

// getDevice puts together what is known, and from where.
func (h *handlers) getDevice(c call) (any, error) {
	d := api.Device{SchemaVersion: api.SchemaVersion, DeviceID: c.device}
	entry, known := h.cfg.Registry.Get(c.device)
	if known {
		d.Enrolled, d.MachineID = &entry.Enrolled, entry.MachineID
		if !entry.Revoked.IsZero() {
			d.Revoked = &entry.Revoked
		}
	}
	if conn, ok := h.cfg.Presence.Connection(c.device); ok {
		known, d.Connected, d.ConnectedSince, d.Address = true, true, &conn.Since, conn.Host
	}
	beat, err := h.cfg.Reports.Get(c.Context(), wire.BucketHeartbeat, wire.HeartbeatKey(c.device))
	switch {
	case err == nil:
		known, d.LastHeartbeat = true, &beat.At
	case !errors.Is(err, kv.ErrNotFound):
		return nil, err
	}
	if d.Info, err = report[wire.DeviceInfo](h, c, wire.BucketInfo, wire.InfoKey(c.device)); err != nil {
		return nil, err
	}
	if d.State, err = report[wire.DeviceState](h, c, wire.BucketState, wire.StateKey(c.device)); err != nil {
		return nil, err
	}
	if !known && d.Info == nil && d.State == nil {
		return nil, unknown(c.device)
	}
	return d, nil
}

// report reads one report; nil when there is none that can be used. A device
// that writes nonsense must not make itself invisible.
func report[T any](h *handlers, c call, b wire.Bucket, key string) (*T, error) {
	value, err := h.cfg.Reports.Get(c.Context(), b, key)
	if errors.Is(err, kv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(value.Data, v); err != nil {
		h.cfg.Log.Warn("report not readable", "op", "api", "device", c.device, "bucket", b, "error", err)
		return nil, nil
	}
	return v, nil
}

// ping asks the device's agent for an answer.
func (h *handlers) ping(c call) (any, error) {
	if err := h.online(c); err != nil {
		return nil, err
	}
	began := time.Now()
	err := h.cfg.Commands.Send(c.Context(), commands.Request{Device: c.device, Verb: wire.VerbPing, Timeout: commandTimeout}, nil)
	if err != nil {
		return nil, commandFailure(err)
	}
	return api.Ping{SchemaVersion: api.SchemaVersion, DeviceID: c.device,
		RoundTripMillis: float64(time.Since(began).Microseconds()) / 1000}, nil
}

// online is nil while the device is connected.
func (h *handlers) online(c call) error {
	if _, ok := h.cfg.Presence.Connection(c.device); ok {
		return nil
	}
	if _, known := h.cfg.Registry.Get(c.device); !known {
		return unknown(c.device)
	}
	return fail(http.StatusConflict, api.CodeDeviceOffline, "device "+c.device+" is not connected",
		"look at the agent on the device: journalctl -u fleet-agent -n 50")
}

// commandFailure turns what went wrong with a command into what the client is
// told.
func commandFailure(err error) error {
	var refused *commands.RefusedError
	switch {
	case errors.Is(err, commands.ErrNoAnswer):
		return fail(http.StatusGatewayTimeout, api.CodeDeviceNoAnswer, err.Error(),
			"the link is up but the agent does not answer: journalctl -u fleet-agent -n 50")
	case !errors.As(err, &refused):
		return err
	}
	switch refused.Reply.Code {
	case wire.ReplyNotFound:
		return fail(http.StatusNotFound, api.CodeNoSuchService, refused.Reply.Message,
			"see what is on the device: fleetctl describe device "+refused.Device)
	case wire.ReplyBadRequest:
		return fail(http.StatusBadRequest, api.CodeBadRequest, refused.Reply.Message, "")
	}
	return fail(http.StatusBadGateway, api.CodeDeviceRefused, err.Error(), refusalHint(refused.Reply.Code))
}

func refusalHint(code wire.ReplyCode) string {
	switch code {
	case wire.ReplyRefused:
		return "check the device's clock (timedatectl); if it is right, onboard the device again to renew its keys"
	case wire.ReplyUnknownVerb:
		return "the agent is older than this command; onboard the device again to upgrade it"
	}
	return ""
}

func unknown(device string) error {
	return fail(http.StatusNotFound, api.CodeNotFound, "no device "+device+" is known", "see which there are: fleetctl get devices")
}
