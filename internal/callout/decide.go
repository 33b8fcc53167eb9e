package callout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/identity/verify"
	"github.com/nationtech/fleetctl/internal/wire"
)

// PSK is a device's password: hex HMAC-SHA256 (RFC 2104) of its id under the
// fleet key. Each device has its own, and none gives away another's.
func PSK(fleetKey []byte, device string) string {
	mac := hmac.New(sha256.New, fleetKey)
	mac.Write([]byte(device))
	return hex.EncodeToString(mac.Sum(nil))
}

// request is what a client presented.
type request struct {
	User     string
	Password string
	// Claims are of its token, once that was found good; Unverified is why it
	// was not. Both are nil for a client without a token.
	Claims     *verify.Claims
	Unverified error
	Visit      time.Time // end of a visitor's token, which was found ours; zero: it is none
}

// decision is the answer: who it is and what it may do.
type decision struct {
	Name        string // a device's id; a part's name and whose token it is
	Device      bool
	Role        string // of the token; empty for a password
	Account     string
	Permissions wire.Permissions
	Expires     time.Time // zero for never
}

// Why a client is refused. The client itself only hears "authorization
// violation"; these are for the audit line, and reasonOf for the metrics.
var (
	errNoCredentials = errors.New("no credentials")
	errBadID         = errors.New("unusable device id")
	errWrongPassword = errors.New("wrong password")
	errNoPasswords   = errors.New("passwords are not taken")
	errNoTokens      = errors.New("tokens are not taken")
	errBadToken      = errors.New("token refused")
	errNoRole        = errors.New("the token has no role that may connect")
	errDenied        = errors.New("device is revoked, or not enrolled")
	errHeld          = errors.New("device flooded the servers, and has to wait")
	errTooOften      = errors.New("connects too often")
)

// reasonOf is a refusal as a label of a metric.
func reasonOf(refusal error) string {
	for _, r := range []struct {
		err    error
		reason string
	}{
		{errNoCredentials, "no-credentials"}, {errBadID, "device-id"}, {errWrongPassword, "password"},
		{errNoPasswords, "password-off"}, {errNoTokens, "token-off"}, {errNoRole, "role"},
		{errDenied, "revoked"}, {errHeld, "flood"}, {errTooOften, "rate"},
		{verify.ErrExpired, "token-expired"}, {verify.ErrNotYetValid, "token-not-yet-valid"},
		{verify.ErrIssuer, "token-issuer"}, {verify.ErrAudience, "token-audience"},
		{verify.ErrAlgorithm, "token-algorithm"}, {verify.ErrUnknownKey, "token-key"},
		{verify.ErrSignature, "token-signature"}, {verify.ErrUnavailable, "issuer-unavailable"},
		{errBadToken, "token-malformed"},
	} {
		if errors.Is(refusal, r.err) {
			return r.reason
		}
	}
	return "other"
}

// policy is what decisions depend on. Its functions are asked only about
// clients that proved who they are, so that nobody locks out another by
// guessing.
type policy struct {
	fleetKey []byte                   // nil: no passwords
	password func(device string) bool // who may use one; nil: all
	grants   []Grant
	prefix   string // of a device's name at the issuer
	// device and subject are what enrolment registered: whose a user of the
	// issuer is, and the user of a device. nil: nothing is.
	device  func(subject string) (device string, ok bool)
	subject func(device string) string
	denied  func(device string) bool
	held    func(device string) bool // for a while
	allow   func(name string) bool   // spends one of its connects
}

// decide is the whole decision, without I/O. Each kind of credential is one
// branch that ends in an identity; what an identity may do does not depend on
// how it was proved.
func (p policy) decide(r request, now time.Time) (decision, error) {
	d, err := p.identify(r, now)
	switch {
	case err != nil:
		return decision{}, err
	case d.Device && p.denied != nil && p.denied(d.Name):
		return decision{}, errDenied
	case d.Device && p.held != nil && p.held(d.Name):
		return decision{}, errHeld
	case p.allow != nil && !p.allow(d.Name):
		return decision{}, errTooOften
	}
	return d, nil
}

func (p policy) identify(r request, now time.Time) (decision, error) {
	switch {
	case !r.Visit.IsZero():
		return byVisit(r.Visit, now)
	case r.Unverified != nil:
		return decision{}, fmt.Errorf("%w: %w", errBadToken, r.Unverified)
	case r.Claims != nil:
		return p.byToken(r.Claims, now)
	case r.User == "" && r.Password == "":
		return decision{}, errNoCredentials
	}
	return p.byPassword(r)
}

// byToken gives what the strongest of the token's roles may do, and nothing of
// the others: a part that is also called a device gets no device's subjects.
func (p policy) byToken(c *verify.Claims, now time.Time) (decision, error) {
	if !now.Before(c.Expiry) { // what a leeway for clocks lets through would end at once
		return decision{}, fmt.Errorf("%w: %w", errBadToken, verify.ErrExpired)
	}
	i := slices.IndexFunc(p.grants, func(g Grant) bool { return c.Has(g.Role) })
	if i < 0 {
		return decision{}, errNoRole
	}
	g := p.grants[i]
	if !g.Device {
		part, ok := accounts.ByToken(g.Part)
		if !ok {
			return decision{}, fmt.Errorf("%w: %s is granted %q", errNoRole, g.Role, g.Part)
		}
		return decision{Name: part.Name + "/" + c.Subject, Role: g.Role, Account: part.Account, Permissions: part.Permissions(), Expires: c.Expiry}, nil
	}
	id, err := p.deviceOf(c)
	if err != nil {
		return decision{}, err
	}
	d, err := device(id)
	d.Role, d.Expires = g.Role, c.Expiry
	return d, err
}

// deviceOf is whose token it is. The subject, which the issuer gave and nobody
// can change, decides where enrolment registered it: a Zitadel puts no name into
// access tokens, and lets users change theirs. A name alone is taken for a
// device whose user is not registered.
func (p policy) deviceOf(c *verify.Claims) (string, error) {
	if p.device != nil {
		if id, ok := p.device(c.Subject); ok {
			return id, nil
		}
	}
	if c.ID == "" {
		return "", fmt.Errorf("%w: the token names no device, and none is enrolled as user %q of the issuer", errBadID, clip(c.Subject))
	}
	id, ok := strings.CutPrefix(c.ID, p.prefix)
	if !ok {
		return "", fmt.Errorf("%w: %q does not begin with %q", errBadID, clip(c.ID), p.prefix)
	}
	if p.subject != nil && p.subject(id) != "" {
		return "", fmt.Errorf("%w: %q is enrolled as another user of the issuer than %q", errBadID, clip(id), clip(c.Subject))
	}
	return id, nil
}

func (p policy) byPassword(r request) (decision, error) {
	if p.fleetKey == nil {
		return decision{}, errNoPasswords
	}
	d, err := device(r.User)
	if err != nil {
		return decision{}, err
	}
	if p.password != nil && !p.password(d.Name) {
		return decision{}, errNoPasswords
	}
	if !hmac.Equal([]byte(PSK(p.fleetKey, r.User)), []byte(r.Password)) { // in constant time
		return decision{}, errWrongPassword
	}
	return d, nil
}

func device(id string) (decision, error) {
	if err := wire.ValidateDeviceID(id); err != nil {
		return decision{}, fmt.Errorf("%w: %w", errBadID, err)
	}
	return decision{Name: id, Device: true, Account: wire.AccountDevices, Permissions: wire.DevicePermissions(id)}, nil
}
