// Package callout decides who may connect to NATS as a device, and with which
// permissions (NATS ADR-26, auth callout). It answers the servers' requests,
// encrypted both ways, and writes an audit line for each decision. It does not
// disconnect anyone: that is internal/broker/presence.
package callout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

const (
	requestSubject = "$SYS.REQ.USER.AUTH"
	serverKey      = "Nats-Server-Xkey" // header with the key to answer to
	queue          = "fleet-callout"    // several instances share the load
	// backlog holds the requests of a fleet that comes back at once. Those
	// that do not fit are dropped, and their clients try again.
	backlog = 16 << 10
	// fleetKeyBytes is the length of the fleet key: the block of security
	// that HMAC-SHA256 can give.
	fleetKeyBytes = 32
	startTimeout  = 10 * time.Second
)

// Config of a callout. All but Denied is required.
type Config struct {
	Conn     *nats.Conn    // in the account of the server's auth_callout
	Issuer   nkeys.KeyPair // account key that signs decisions
	XKey     nkeys.KeyPair // curve key that requests are encrypted to
	FleetKey []byte        // from LoadFleetKey
	Denied   func(device string) bool
	Log      *slog.Logger
}

// LoadFleetKey reads the key that devices' passwords come from, and makes it
// at first start.
func LoadFleetKey(path string) ([]byte, error) {
	key, err := secretfile.LoadOrCreate(path, func() ([]byte, error) {
		key := make([]byte, fleetKeyBytes)
		_, err := rand.Read(key)
		return key, err
	})
	if err != nil {
		return nil, fmt.Errorf("load fleet key: %w", err)
	}
	if len(key) != fleetKeyBytes {
		return nil, fmt.Errorf("load fleet key: %s has %d bytes, not %d", path, len(key), fleetKeyBytes)
	}
	return key, nil
}

// Callout answers authorization requests.
type Callout struct {
	cfg    Config
	policy policy
	limits *limiter
}

// Start answers requests until ctx ends. When it returns, the servers can ask.
func Start(ctx context.Context, cfg Config) (*Callout, error) {
	c := &Callout{cfg: cfg, limits: newLimiter()}
	c.policy = policy{
		fleetKey: cfg.FleetKey,
		denied:   cfg.Denied,
		allow:    func(device string) bool { return c.limits.allow(device, time.Now()) },
	}
	requests := make(chan *nats.Msg, backlog)
	sub, err := cfg.Conn.ChanQueueSubscribe(requestSubject, queue, requests)
	if err != nil {
		return nil, fmt.Errorf("start auth callout: %w", err)
	}
	if err := cfg.Conn.FlushTimeout(startTimeout); err != nil {
		return nil, errors.Join(fmt.Errorf("start auth callout: %w", err), sub.Unsubscribe())
	}
	// Decisions are computing alone: signing, encrypting, hashing.
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case msg := <-requests:
					c.answer(msg)
				}
			}
		}()
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() })
	return c, nil
}

// answer decides one request. Without an answer the server refuses the client
// when its patience ends, so every readable request gets one.
func (c *Callout) answer(msg *nats.Msg) {
	began := time.Now()
	xkey := msg.Header.Get(serverKey)
	req, err := c.open(msg.Data, xkey)
	if err != nil {
		c.cfg.Log.Warn("authorization request not readable", "op", "callout", "error", err)
		return
	}
	d, refusal := c.policy.decide(request{User: req.ConnectOptions.Username, Password: req.ConnectOptions.Password})
	c.audit(req, d, refusal, time.Since(began))
	data, err := c.seal(req, d, refusal, xkey)
	if err == nil {
		err = msg.Respond(data)
	}
	if err != nil {
		c.cfg.Log.Error("authorization request not answered", "op", "callout", "error", err)
	}
}

func (c *Callout) audit(req *jwt.AuthorizationRequestClaims, d decision, refusal error, took time.Duration) {
	host := req.ClientInformation.Host
	if refusal == nil {
		c.cfg.Log.Info("device let in", "op", "callout", "device", d.Device, "host", host, "took", took)
		return
	}
	if c.limits.quiet(host, time.Now()) {
		return
	}
	c.cfg.Log.Warn("device refused", "op", "callout", "claimed", clip(req.ConnectOptions.Username),
		"host", host, "reason", refusal, "took", took)
}

// open decrypts and checks a server's request.
func (c *Callout) open(data []byte, xkey string) (*jwt.AuthorizationRequestClaims, error) {
	if xkey == "" {
		return nil, errors.New("it is not encrypted")
	}
	plain, err := c.cfg.XKey.Open(data, xkey)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return jwt.DecodeAuthorizationRequestClaims(string(plain))
}

// seal makes the signed and encrypted response (NATS ADR-26).
func (c *Callout) seal(req *jwt.AuthorizationRequestClaims, d decision, refusal error, xkey string) ([]byte, error) {
	response := jwt.NewAuthorizationResponseClaims(req.UserNkey)
	response.Audience = req.Server.ID
	if refusal != nil {
		response.Error = "refused"
	} else {
		user := jwt.NewUserClaims(req.UserNkey)
		user.Name = d.Device
		user.Audience = d.Account // where the connection is put, in config mode
		user.Pub.Allow.Add(d.Permissions.Publish...)
		user.Sub.Allow.Add(d.Permissions.Subscribe...)
		user.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket)
		token, err := user.Encode(c.cfg.Issuer)
		if err != nil {
			return nil, fmt.Errorf("sign user: %w", err)
		}
		response.Jwt = token
	}
	token, err := response.Encode(c.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("sign response: %w", err)
	}
	return c.cfg.XKey.Seal([]byte(token), xkey)
}

// clip bounds what a stranger gets into the log.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
