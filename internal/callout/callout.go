// Package callout decides who may connect to NATS, and with which permissions
// (NATS ADR-26, auth callout). It answers the servers' requests, encrypted both
// ways, and counts and records each decision. What makes a token good is
// internal/identity/verify's; it disconnects nobody: that is
// internal/broker/presence.
package callout

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nationtech/fleetctl/internal/identity/verify"
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
	// maxWaiting requests wait for the issuer's keys at once, each for at most
	// issuerTimeout, which ends before the server's patience.
	maxWaiting    = 256
	issuerTimeout = 8 * time.Second
)

// Config of a callout. Conn, Issuer, XKey and Log are required, and one of
// Tokens and FleetKey: who has neither lets nobody in.
type Config struct {
	Conn   *nats.Conn    // in the account of the server's auth_callout
	Issuer nkeys.KeyPair // account key that signs decisions
	XKey   nkeys.KeyPair // curve key that requests are encrypted to
	// Tokens checks access tokens; its IDClaim names devices that Subject does
	// not know. nil: none are taken.
	Tokens *verify.Verifier
	// DevicePrefix is what precedes a device's id in the IDClaim.
	DevicePrefix string
	Grants       []Grant // the strongest first; nil: DefaultGrants
	// FleetKey, from LoadFleetKey, makes passwords good. nil: none are taken.
	FleetKey []byte
	// Passwords says which devices may use them; nil: all.
	Passwords func(device string) bool
	// Device and Subject are what enrolment registered: whose a user of the
	// issuer is, and which user a device signs in as, "" for none. They are
	// asked at each connect and must not block; nil knows of none.
	Device  func(subject string) (device string, ok bool)
	Subject func(device string) string
	// Denied keeps devices out that are revoked or not enrolled. It is asked
	// at each connect and must not block; nil denies none.
	Denied func(device string) bool
	// Held keeps devices out for a while that misbehaved; as Denied.
	Held func(device string) bool
	// Deciding is called when a request arrives, and what it gives once it is
	// answered; may be nil.
	Deciding func() (done func())
	Metrics  prometheus.Registerer // may be nil
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
	if err := CheckFleetKey(key); err != nil {
		return nil, fmt.Errorf("load fleet key %s: %w", path, err)
	}
	return key, nil
}

// CheckFleetKey says what is wrong with a fleet key that came from elsewhere.
func CheckFleetKey(key []byte) error {
	if len(key) != fleetKeyBytes {
		return fmt.Errorf("the fleet key has %d bytes, not %d", len(key), fleetKeyBytes)
	}
	return nil
}

// Callout answers authorization requests.
type Callout struct {
	cfg     Config
	signer  *signer
	boxes   *boxes
	policy  policy
	limits  *limiter
	metrics *metrics
	waiting chan struct{} // a place for each request that waits for the issuer
}

// Start answers requests until ctx ends. When it returns, the servers can ask.
func Start(ctx context.Context, cfg Config) (*Callout, error) {
	if cfg.Grants == nil {
		cfg.Grants = DefaultGrants()
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("start auth callout: %w", err)
	}
	signs, err := newSigner(cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("start auth callout: issuer's key: %w", err)
	}
	sealed, err := newBoxes(cfg.XKey)
	if err != nil {
		return nil, fmt.Errorf("start auth callout: xkey: %w", err)
	}
	c := &Callout{cfg: cfg, signer: signs, boxes: sealed, limits: newLimiter(), metrics: m, waiting: make(chan struct{}, maxWaiting)}
	c.policy = policy{
		fleetKey: cfg.FleetKey,
		password: cfg.Passwords,
		grants:   cfg.Grants,
		prefix:   cfg.DevicePrefix,
		device:   cfg.Device,
		subject:  cfg.Subject,
		denied:   cfg.Denied,
		held:     cfg.Held,
		allow:    func(name string) bool { return c.limits.allow(name, time.Now()) },
	}
	requests := make(chan asked, backlog)
	sub, err := cfg.Conn.QueueSubscribe(requestSubject, queue, func(msg *nats.Msg) { c.take(requests, msg) })
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
				case a := <-requests:
					c.answer(ctx, a)
				}
			}
		}()
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() })
	return c, nil
}

// asked is a request, and when it arrived.
type asked struct {
	*nats.Msg
	at   time.Time
	done func()
}

// take queues a request; one that does not fit is dropped.
func (c *Callout) take(requests chan<- asked, msg *nats.Msg) {
	a := asked{Msg: msg, at: time.Now(), done: func() {}}
	if c.cfg.Deciding != nil {
		a.done = sync.OnceFunc(c.cfg.Deciding())
	}
	select {
	case requests <- a:
	default:
		a.done()
		c.metrics.dropped.Inc()
	}
}

// answer decides one request. Without an answer the server refuses the client
// when its patience ends, so every readable request gets one.
func (c *Callout) answer(ctx context.Context, msg asked) {
	xkey := msg.Header.Get(serverKey)
	req, err := c.open(msg.Data, xkey)
	if err != nil {
		msg.done()
		c.metrics.dropped.Inc()
		c.cfg.Log.Warn("authorization request not readable", "op", "callout", "error", err)
		return
	}
	finish := func(r request) { c.finish(msg, req, r) }
	r := request{User: req.ConnectOptions.Username, Password: req.ConnectOptions.Password}
	token := req.ConnectOptions.Token
	if token == "" {
		finish(r)
		return
	}
	if expires, ours := c.visit(token); ours {
		r.Visit = expires
		finish(r)
		return
	}
	if c.cfg.Tokens == nil {
		r.Unverified = errNoTokens
		finish(r)
		return
	}
	claims, err := c.cfg.Tokens.VerifyNow(token)
	if errors.Is(err, verify.ErrUnknownKey) || errors.Is(err, verify.ErrUnavailable) {
		// The issuer has to be asked. That must not hold up who is known: a
		// stranger with made-up key ids would stop a fleet.
		select {
		case c.waiting <- struct{}{}:
			msg.done() // as far as others are concerned
			go func() {
				defer func() { <-c.waiting }()
				ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
				defer cancel()
				claims, err := c.cfg.Tokens.Verify(ctx, token)
				r.Claims, r.Unverified = &claims, err
				finish(r)
			}()
			return
		default: // too many wait already
		}
	}
	r.Claims, r.Unverified = &claims, err
	finish(r)
}

// finish decides what was asked, records it, and answers.
func (c *Callout) finish(msg asked, req *jwt.AuthorizationRequestClaims, r request) {
	defer msg.done()
	d, refusal := c.policy.decide(r, time.Now())
	data, err := c.seal(req, d, refusal, msg.Header.Get(serverKey))
	if err == nil {
		err = msg.Respond(data)
	}
	took := time.Since(msg.at)
	c.metrics.decided(d, refusal, took)
	c.audit(req, d, refusal, took)
	if err != nil {
		c.metrics.dropped.Inc()
		c.cfg.Log.Error("authorization request not answered", "op", "callout", "error", err)
	}
}

// audit writes a line for each decision, but for refusals of an address that
// has had many: those are counted in the metrics alone.
func (c *Callout) audit(req *jwt.AuthorizationRequestClaims, d decision, refusal error, took time.Duration) {
	host := req.ClientInformation.Host
	switch {
	case refusal == nil && d.Device:
		c.cfg.Log.Info("device let in", "op", "callout", "device", d.Name, "host", host, "expires", d.Expires, "took", took)
	case refusal == nil:
		c.cfg.Log.Info("let in", "op", "callout", "part", d.Name, "role", d.Role, "host", host, "expires", d.Expires, "took", took)
	case !c.limits.quiet(host, time.Now()):
		c.cfg.Log.Warn("refused", "op", "callout", "claimed", clip(req.ConnectOptions.Username),
			"host", host, "reason", refusal, "took", took)
	}
}

// open decrypts and checks a server's request.
func (c *Callout) open(data []byte, xkey string) (*jwt.AuthorizationRequestClaims, error) {
	if xkey == "" {
		return nil, errors.New("it is not encrypted")
	}
	plain, err := c.boxes.open(data, xkey)
	if err != nil {
		return nil, err
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
		user.Name = d.Name
		user.Audience = d.Account // where the connection is put, in config mode
		user.Pub.Allow.Add(d.Permissions.Publish...)
		user.Sub.Allow.Add(d.Permissions.Subscribe...)
		if !d.Expires.IsZero() {
			user.Expires = d.Expires.Unix() // then the server ends the connection
		}
		user.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard, jwt.ConnectionTypeWebsocket)
		token, err := user.Encode(c.signer)
		if err != nil {
			return nil, fmt.Errorf("sign user: %w", err)
		}
		response.Jwt = token
	}
	token, err := response.Encode(c.signer)
	if err != nil {
		return nil, fmt.Errorf("sign response: %w", err)
	}
	return c.boxes.seal([]byte(token), xkey)
}

// clip bounds what a stranger gets into the log.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
