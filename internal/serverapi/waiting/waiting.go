// Package waiting is the list of devices that ask to join and wait for a
// person. It is bounded, forgets what is too old, and is gone with the process:
// a device asks again. It decides nothing; approving is package serverapi's.
package waiting

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/nationtech/fleetctl/internal/join"
)

// Limits keep strangers, who need no credential to ask, from filling the list
// or the memory.
const (
	Lifetime      = 15 * time.Minute // of a request; an answer is kept as long
	maxRequests   = 256
	maxPerSource  = 16 // that wait at once
	askBurst      = 8  // of one source
	askEvery      = 15 * time.Second
	maxSources    = 10_000 // whose rate is remembered
	maxAttempts   = 5      // codes for one device id, in the window below
	attemptWindow = time.Minute
)

// Why a request is refused.
var (
	ErrFull    = errors.New("too many devices wait to join")
	ErrTooFast = errors.New("too many requests to join from one address")
	ErrUnknown = errors.New("no such request to join; it may have expired")
	ErrNonce   = errors.New("the nonce is not the one that was committed to")
	ErrCode    = errors.New("no device that waits under this id shows this code")
)

// Entry is one request.
type Entry struct {
	join.Request
	Receipt join.Receipt // without its token
	Source  string       // address
	Asked   time.Time
	State   join.State
	Grant   *join.Grant

	token [sha256.Size]byte
	code  string // "" until the nonce was revealed
}

// Ready says whether the device shows its code.
func (e *Entry) Ready() bool { return e.code != "" }

// List is safe for concurrent use.
type List struct {
	now       func() time.Time
	authority []byte // DER, what codes are made with

	mu      sync.Mutex
	entries map[string]*Entry // by receipt id
	sources map[string]*rate.Limiter
	guesses map[string]*rate.Limiter // by device id
}

// New makes an empty list. authority is the certificate (DER) that devices pin.
func New(authority []byte, now func() time.Time) *List {
	return &List{now: now, authority: authority, entries: map[string]*Entry{}, sources: map[string]*rate.Limiter{}, guesses: map[string]*rate.Limiter{}}
}

// Add lets a device wait. The same device asking again takes its own place.
func (l *List) Add(r join.Request, source string) (join.Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.sweep(now)
	if !l.limiter(l.sources, source, rate.Every(askEvery), askBurst).AllowN(now, 1) {
		return join.Receipt{}, ErrTooFast
	}
	same := ""
	fromSource := 0
	for id, e := range l.entries {
		if e.State != join.Pending {
			continue
		}
		if e.DeviceID == r.DeviceID && e.IdentityKey == r.IdentityKey && e.Source == source {
			same = id
		} else if e.Source == source {
			fromSource++
		}
	}
	if same != "" {
		delete(l.entries, same)
	}
	if len(l.entries) >= maxRequests || fromSource >= maxPerSource {
		return join.Receipt{}, ErrFull
	}
	token, nonce, id := random(), make([]byte, join.NonceBytes), random()[:16]
	if _, err := rand.Read(nonce); err != nil {
		return join.Receipt{}, err
	}
	receipt := join.Receipt{SchemaVersion: join.SchemaVersion, ID: id, ServerNonce: nonce, Expires: now.Add(Lifetime).UTC()}
	l.entries[id] = &Entry{Request: r, Receipt: receipt, Source: source, Asked: now.UTC(), State: join.Pending, token: sha256.Sum256([]byte(token))}
	receipt.Token = token
	return receipt, nil
}

// Reveal takes the device's nonce; from then on its code can be typed.
func (l *List) Reveal(id, token string, nonce []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.own(id, token)
	if err != nil {
		return err
	}
	if !join.Opens(e.Commitment, nonce) {
		delete(l.entries, id)
		return ErrNonce
	}
	e.code = join.Code(l.authority, e.Request, e.Receipt, nonce)
	return nil
}

// Status is what became of a request, for who asked.
func (l *List) Status(id, token string) (join.Status, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.own(id, token)
	if err != nil {
		return join.Status{}, err
	}
	return join.Status{SchemaVersion: join.SchemaVersion, State: e.State, Grant: e.Grant}, nil
}

// Waiting lists the requests that a person can decide about, oldest first.
func (l *List) Waiting() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep(l.now())
	var out []Entry
	for _, e := range l.entries {
		if e.State == join.Pending && e.Ready() {
			out = append(out, *e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int {
		if c := a.Asked.Compare(b.Asked); c != 0 {
			return c
		}
		return strings.Compare(a.Receipt.ID, b.Receipt.ID)
	})
	return out
}

// Find gives the request of a device that shows this code. Wrong codes are
// counted: who guesses has a handful of tries a minute.
func (l *List) Find(device, code string) (Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.sweep(now)
	if !l.limiter(l.guesses, device, rate.Every(attemptWindow/maxAttempts), maxAttempts).AllowN(now, 1) {
		return Entry{}, ErrTooFast
	}
	for _, e := range l.entries {
		if e.DeviceID == device && e.State == join.Pending && e.Ready() && join.Same(e.code, code) {
			return *e, nil
		}
	}
	return Entry{}, ErrCode
}

// Approve tells the device that asked what it needs.
func (l *List) Approve(id string, grant join.Grant) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	if e == nil {
		return ErrUnknown
	}
	e.State, e.Grant = join.Approved, &grant
	return nil
}

// Deny ends all requests of a device id, and says how many there were.
func (l *List) Deny(device string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.entries {
		if e.DeviceID == device && e.State == join.Pending {
			e.State = join.Denied
			n++
		}
	}
	return n
}

func (l *List) own(id, token string) (*Entry, error) {
	e := l.entries[id]
	got := sha256.Sum256([]byte(token))
	if e == nil || !l.now().Before(e.Receipt.Expires) || subtle.ConstantTimeCompare(got[:], e.token[:]) != 1 {
		return nil, ErrUnknown
	}
	return e, nil
}

func (l *List) sweep(now time.Time) {
	for id, e := range l.entries {
		if !now.Before(e.Receipt.Expires) {
			delete(l.entries, id)
		}
	}
}

// limiter gives the limiter of a key; a map that grew too large forgets those
// that are full again, which is what they would be if made anew.
func (l *List) limiter(all map[string]*rate.Limiter, key string, every rate.Limit, burst int) *rate.Limiter {
	if len(all) >= maxSources {
		now := l.now()
		for k, v := range all {
			if v.TokensAt(now) >= float64(v.Burst()) {
				delete(all, k)
			}
		}
	}
	if all[key] == nil {
		all[key] = rate.NewLimiter(every, burst)
	}
	return all[key]
}

func random() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand
	return hex.EncodeToString(raw)
}
