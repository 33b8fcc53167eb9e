package serverapi

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/provision"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/machineid"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/waiting"
)

// DeviceAccounts makes devices' accounts at the issuer.
type DeviceAccounts interface {
	Check(ctx context.Context) error
	Ensure(ctx context.Context, device string) (provision.Account, error)
	Register(ctx context.Context, user, publicPEM string) (zitadel.NewKey, error)
	Prune(ctx context.Context, user, keep string) error
}

// askJoin lets a stranger wait. It is in the log, not on record: whoever can
// reach this could fill the disk.
func (h *handlers) askJoin(w http.ResponseWriter, r *http.Request) {
	var req join.Request
	err := decode(r, &req)
	if err == nil {
		if err = req.Validate(); err == nil && !machineid.Valid(req.MachineID) {
			err = errors.New("machineId: is not 32 lower-case hex digits")
		}
		if err != nil {
			err = fail(http.StatusBadRequest, api.CodeBadRequest, err.Error(), "device and server may be of different versions")
		}
	}
	var receipt join.Receipt
	if err == nil {
		source, _, _ := net.SplitHostPort(r.RemoteAddr)
		if receipt, err = h.cfg.Joins.Add(req, source); err == nil {
			h.cfg.Log.Info("a device asks to join", "op", "join", "device", req.DeviceID, "from", source, "request", receipt.ID)
		}
	}
	h.answer(w, r, receipt, joinRefused(err))
}

func (h *handlers) revealJoin(w http.ResponseWriter, r *http.Request) {
	var in join.Reveal
	err := decode(r, &in)
	if err == nil {
		token, _ := bearer(r)
		err = joinRefused(h.cfg.Joins.Reveal(r.PathValue("request"), token, in.Nonce))
	}
	h.answer(w, r, join.Status{SchemaVersion: join.SchemaVersion, State: join.Pending}, err)
}

func (h *handlers) joinStatus(w http.ResponseWriter, r *http.Request) {
	token, _ := bearer(r)
	status, err := h.cfg.Joins.Status(r.PathValue("request"), token)
	h.answer(w, r, status, joinRefused(err))
}

// joinRefused turns the list's refusals into what the client is told.
func joinRefused(err error) error {
	switch {
	case errors.Is(err, waiting.ErrFull), errors.Is(err, waiting.ErrTooFast):
		return fail(http.StatusTooManyRequests, api.CodeBusy, err.Error(), "try again in a minute; an administrator sees who waits with: fleetctl devices pending")
	case errors.Is(err, waiting.ErrUnknown):
		return fail(http.StatusNotFound, api.CodeNotFound, err.Error(), "ask again with: fleet-agent join")
	case errors.Is(err, waiting.ErrNonce):
		return fail(http.StatusBadRequest, api.CodeBadRequest, err.Error(), "")
	case errors.Is(err, waiting.ErrCode):
		return fail(http.StatusConflict, api.CodeNoSuchJoin, err.Error(),
			"read the code from the device again; if it is the same, somebody may be between the device and this server")
	}
	return err
}

// pendingJoins lists who waits. The codes are not in it: they are to be read
// from the devices.
func (h *handlers) pendingJoins(w http.ResponseWriter, r *http.Request) {
	if _, err := h.authorize(r, role.Viewer); err != nil {
		h.answer(w, r, nil, err)
		return
	}
	list := api.Joins{SchemaVersion: api.SchemaVersion, Requests: []api.Join{}}
	for _, e := range h.cfg.Joins.Waiting() {
		item := api.Join{ID: e.Receipt.ID, DeviceID: e.DeviceID, MachineID: e.MachineID, Address: e.Source, Asked: e.Asked, Expires: e.Receipt.Expires, Facts: e.Facts}
		if known, ok := h.cfg.Registry.Get(e.DeviceID); ok {
			item.OtherMachine = known.MachineID != e.MachineID
			item.Known = true
		}
		list.Requests = append(list.Requests, item)
	}
	h.answer(w, r, list, nil)
}

// approveJoin makes the device whose code the person typed a device: its id is
// registered for the machine, its key at the issuer. That is done with the
// person's own token; this server has no power over the issuer.
func (h *handlers) approveJoin(c call) (any, error) {
	var in join.Approval
	if err := decode(c.Request, &in); err != nil {
		return nil, err
	}
	entry, err := h.cfg.Joins.Find(c.device, in.Code)
	if err != nil {
		return nil, joinRefused(err)
	}
	if c.who.Subject == "" {
		return nil, fail(http.StatusForbidden, api.CodeForbidden, "approving makes an account at the issuer, which the administrator's token of this server is nothing to",
			"sign in as an administrator with: fleetctl login")
	}
	token, err := bearer(c.Request)
	if err != nil {
		return nil, err
	}
	accounts, err := h.cfg.Accounts(token, in.OrgID)
	if err != nil {
		return nil, err
	}
	req := api.EnrolmentRequest{MachineID: entry.MachineID, SealingKey: base64.StdEncoding.EncodeToString(entry.SealingKey)}
	if err := h.register(c, req); err != nil {
		return nil, err
	}
	grant, err := h.grant(c, accounts, entry)
	if err != nil {
		return nil, err
	}
	req.Subject = grant.UserID
	if err := h.register(c, req); err != nil {
		return nil, err
	}
	if err := h.cfg.Joins.Approve(entry.Receipt.ID, grant); err != nil {
		return nil, joinRefused(err)
	}
	return h.getDevice(c)
}

// grant gives the device its identity.
func (h *handlers) grant(c call, accounts DeviceAccounts, entry waiting.Entry) (join.Grant, error) {
	ctx := c.Context()
	if err := accounts.Check(ctx); err != nil {
		return join.Grant{}, issuerRefused(err)
	}
	account, err := accounts.Ensure(ctx, entry.DeviceID)
	if err != nil {
		return join.Grant{}, issuerRefused(err)
	}
	key, err := accounts.Register(ctx, account.UserID, entry.IdentityKey)
	if err == nil && key.File != "" {
		err = errors.New("the issuer takes no public keys")
	}
	if err == nil {
		err = accounts.Prune(ctx, account.UserID, key.ID)
	}
	if err != nil {
		return join.Grant{}, issuerRefused(err)
	}
	e := h.enrolment(c, true)
	g := join.Grant{NATSURLs: e.NATSURLs, CAPEM: e.CAPEM, SigningKeys: e.SigningKeys, UserID: account.UserID, KeyID: key.ID}
	if e.Issuer != nil {
		g.Issuer, g.ProjectID, g.IssuerCAPEM = e.Issuer.URL, e.Issuer.ProjectID, e.Issuer.CAPEM
	}
	return g, nil
}

// issuerRefused passes on what the issuer said to the person whose token it was.
func issuerRefused(err error) error {
	return fail(http.StatusBadGateway, api.CodeIssuer, err.Error(), hint.Of(err))
}

// denyJoin turns away all that wait under an id.
func (h *handlers) denyJoin(c call) (any, error) {
	n := h.cfg.Joins.Deny(c.device)
	if n == 0 {
		return nil, fail(http.StatusNotFound, api.CodeNotFound, "no device waits under the id "+c.device, "see who waits with: fleetctl devices pending")
	}
	return api.JoinsDenied{SchemaVersion: api.SchemaVersion, DeviceID: c.device, Denied: n}, nil
}
