// Package api is the shape of fleet-server's HTTPS API: paths, requests,
// answers and error codes. Server and client share it; neither's workings are
// here. Payloads only grow.
package api

import (
	"log/slog"
	"time"

	"github.com/nationtech/fleetctl/internal/audit"
	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/wire"
)

// SchemaVersion is the value of every answer's schemaVersion field.
const SchemaVersion = 1

// Secret is text that must not be shown; in JSON it is plain.
type Secret string

func (Secret) String() string       { return "[redacted]" }
func (Secret) GoString() string     { return "[redacted]" }
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Version answers GET /version.
type Version struct {
	SchemaVersion int    `json:"schemaVersion"`
	Version       string `json:"version"`
}

// Health answers GET /healthz and /readyz.
type Health struct {
	Status string `json:"status"` // "ok"
}

// EnrolmentRequest is the body of POST /v1/devices/{id}/enrolment, and of the
// same with /preview, which gives the same answer and registers nothing.
type EnrolmentRequest struct {
	// MachineID is the machine's name from internal/machineid.
	MachineID string `json:"machineId"`
	// Replace says that this machine takes the place of the one that has
	// the id, such as a Pi with a new SD card.
	Replace bool `json:"replace,omitempty"`
	// SealingKey is the device's X25519 public key in base64; secrets are
	// sealed to it. Left out, one that this machine registered before stays.
	SealingKey string `json:"sealingKey,omitempty"`
	// Subject is the user at the issuer that the device signs in as. Left out,
	// one that this machine registered before stays.
	Subject string `json:"subject,omitempty"`
}

// Enrolment is everything that a machine needs to be a device.
type Enrolment struct {
	SchemaVersion int             `json:"schemaVersion"`
	DeviceID      string          `json:"deviceId"`
	NATSURLs      []string        `json:"natsURLs"`
	CAPEM         string          `json:"caPEM"`
	SigningKeys   wire.PinnedKeys `json:"signingKeys"`
	// Issuer gives the device its tokens; nil when there is none.
	Issuer *DeviceIssuer `json:"issuer,omitempty"`
	// PSK is a NATS password, of a server that takes those; the user is DeviceID.
	PSK Secret `json:"psk,omitempty"`
	// Registered says that the id is this machine's.
	Registered bool `json:"registered,omitempty"`
}

// DeviceIssuer is where a device gets its access tokens, by the JWT profile.
type DeviceIssuer struct {
	URL       string `json:"url"`
	ProjectID string `json:"projectId"`       // the audience of tokens
	CAPEM     string `json:"caPEM,omitempty"` // "" when the system's authorities vouch for it
}

// Device answers GET /v1/devices/{id}: what the control plane knows of it.
type Device struct {
	SchemaVersion  int        `json:"schemaVersion"`
	DeviceID       string     `json:"deviceId"`
	Enrolled       *time.Time `json:"enrolled,omitempty"` // when the id was registered
	Revoked        *time.Time `json:"revoked,omitempty"`
	MachineID      string     `json:"machineId,omitempty"` // that the id was registered from
	Connected      bool       `json:"connected"`
	ConnectedSince *time.Time `json:"connectedSince,omitempty"`
	Address        string     `json:"address,omitempty"` // that it connects from
	// LastHeartbeat is by the server's clock.
	LastHeartbeat *time.Time        `json:"lastHeartbeat,omitempty"`
	Info          *wire.DeviceInfo  `json:"info,omitempty"`
	State         *wire.DeviceState `json:"state,omitempty"`
}

// Ping answers POST /v1/devices/{id}/commands/ping and GET /v1/devices/{id}/probe.
type Ping struct {
	SchemaVersion   int     `json:"schemaVersion"`
	DeviceID        string  `json:"deviceId"`
	RoundTripMillis float64 `json:"roundTripMillis"` // from the server to the device's agent and back
}

// Joins answers GET /v1/joins: the devices that ask to join and wait. One is
// approved with POST /v1/devices/{id}/join/approve (join.Approval; the code is
// read from the device), which answers with its Device, and denied with
// DELETE /v1/devices/{id}/join.
type Joins struct {
	SchemaVersion int    `json:"schemaVersion"`
	Requests      []Join `json:"requests"` // oldest first
}

// Join is one device that waits. What it says of itself is unproven.
type Join struct {
	ID        string     `json:"id"`
	DeviceID  string     `json:"deviceId"`
	MachineID string     `json:"machineId"`
	Address   string     `json:"address"`
	Asked     time.Time  `json:"asked"`
	Expires   time.Time  `json:"expires"`
	Facts     join.Facts `json:"facts"`
	// Known says that the id is registered, OtherMachine that it is another
	// machine's: then it cannot be approved.
	Known        bool `json:"known,omitempty"`
	OtherMachine bool `json:"otherMachine,omitempty"`
}

// JoinsDenied answers DELETE /v1/devices/{id}/join.
type JoinsDenied struct {
	SchemaVersion int    `json:"schemaVersion"`
	DeviceID      string `json:"deviceId"`
	Denied        int    `json:"denied"` // requests
}

// SignIn answers GET /v1/signin: what a laptop needs to sign a person in and to
// reach Kubernetes. Nothing of it is secret.
type SignIn struct {
	SchemaVersion int    `json:"schemaVersion"`
	Issuer        string `json:"issuer"`
	ClientID      string `json:"clientId"`
	ProjectID     string `json:"projectId"`
	KubernetesURL string `json:"kubernetesURL"`
	// PSK says that the server also takes pre-shared keys of devices.
	PSK bool `json:"psk,omitempty"`
	// CAPEM is the authority of the server, its issuer and its Kubernetes. Who
	// has it from here alone compares its fingerprint with the server's.
	CAPEM string `json:"caPEM,omitempty"`
}

// Audit answers GET /v1/audit?since=RFC3339&device=ID&user=NAME&limit=N.
type Audit struct {
	SchemaVersion int `json:"schemaVersion"`
	audit.Result
}

// SigningKey answers GET /v1/signing-key, and what changes it: POST and DELETE
// /v1/signing-key/rotation, POST /v1/signing-key/rotation/finish and /force.
type SigningKey struct {
	SchemaVersion int          `json:"schemaVersion"`
	Phase         SigningPhase `json:"phase"`
	Revision      uint64       `json:"revision"` // of the newest announcement; 0: there was none
	Began         *time.Time   `json:"began,omitempty"`
	// Keys are those that count: one, or two during a rotation.
	Keys    []SigningKeyUse `json:"keys"`
	Devices int             `json:"devices"` // that may connect
	// Lacking are the devices that do not have the newest key, by id.
	Lacking []LackingDevice `json:"lacking"`
}

// SigningPhase is how far a rotation of the signing key is.
type SigningPhase string

// The phases.
const (
	SigningIdle      SigningPhase = "idle"
	SigningAnnounced SigningPhase = "announced" // devices learn of the successor
	SigningSwitched  SigningPhase = "switched"  // the successor signs, the old key is still trusted
)

// SigningKeyUse is one key.
type SigningKeyUse struct {
	ID      string `json:"id"`   // the first 16 hex digits of the public key's SHA-256
	Role    string `json:"role"` // "current" or "successor"
	Signs   bool   `json:"signs"`
	Devices int    `json:"devices"` // that trust it
}

// LackingDevice is a device without the newest key.
type LackingDevice struct {
	DeviceID  string `json:"deviceId"`
	Connected bool   `json:"connected"`
	// Silent says that its agent does not tell which keys it trusts: it is
	// too old to follow a rotation, or was never heard of.
	Silent bool `json:"silent,omitempty"`
}

// StreamErrorTrailer is the HTTP trailer that holds an Error in JSON when an
// answer failed after it had begun.
const StreamErrorTrailer = "Fleet-Error"

// FrameRequest is the kind of the first frame of a session's request body: the
// command's body in JSON. The frames of input that follow are wire's.
const FrameRequest = 16

// Code says why a request failed, for a program to branch on.
type Code string

// The error codes, with their HTTP status.
const (
	CodeBadRequest      Code = "bad-request"      // 400
	CodeUnauthorized    Code = "unauthorized"     // 401
	CodeForbidden       Code = "forbidden"        // 403: the roles do not allow it
	CodeNotFound        Code = "not-found"        // 404
	CodeNoSuchService   Code = "no-such-service"  // 404: the device has no such deployment or service
	CodeMethod          Code = "method"           // 405
	CodeOtherMachine    Code = "other-machine"    // 409: the id belongs to another machine
	CodeDeviceOffline   Code = "device-offline"   // 409
	CodeNoSuchJoin      Code = "no-such-join"     // 409: nobody waits with this id and code
	CodeDeviceLeaving   Code = "device-leaving"   // 409: it is being off-boarded
	CodeRotation        Code = "rotation"         // 409: the rotation of the signing key is not where this could be done
	CodeKeyLacking      Code = "key-lacking"      // 409: devices do not have the new signing key
	CodeTooLarge        Code = "too-large"        // 413
	CodeBusy            Code = "busy"             // 429
	CodeInternal        Code = "internal"         // 500
	CodeDeviceRefused   Code = "device-refused"   // 502: the agent said no
	CodeIssuer          Code = "issuer"           // 502: the issuer did not do its part
	CodeNotReady        Code = "not-ready"        // 503
	CodeDeviceNoAnswer  Code = "device-no-answer" // 504
	CodeUnknownResponse Code = "unknown-response" // never sent: what answered is no fleet-server
)

// Error is what failed.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// ErrorBody is the body of every answer with a status of 400 or more.
type ErrorBody struct {
	Error Error `json:"error"`
}
