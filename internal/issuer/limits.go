package issuer

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// limit is a token bucket: burst at once, then one every so often.
type limit struct {
	burst float64
	every time.Duration
}

// A person who mistypes is let in, a list of passwords is not; and nobody who
// is elsewhere can lock a person out for long.
var (
	limitPair   = limit{5, 30 * time.Second}  // one name from one address
	limitName   = limit{50, 10 * time.Second} // one name from everywhere
	limitSource = limit{50, 5 * time.Second}  // one address, whatever name
	limitBegin  = limit{60, 500 * time.Millisecond}
)

const maxBuckets = 50_000

type bucket struct {
	limit
	tokens float64
	at     time.Time
}

// limits counts attempts. It forgets on a restart.
type limits struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket
}

func newLimits(now func() time.Time) *limits {
	return &limits{now: now, buckets: map[string]*bucket{}}
}

func (l *limits) get(key string, rule limit) *bucket {
	now := l.now()
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			l.drop(now)
		}
		b = &bucket{limit: rule, tokens: rule.burst, at: now}
		l.buckets[key] = b
	}
	b.refill(now)
	return b
}

func (b *bucket) refill(now time.Time) {
	b.tokens = min(b.burst, b.tokens+float64(now.Sub(b.at))/float64(b.every))
	b.at = now
}

type counted struct {
	key  string
	rule limit
}

// take counts an attempt in every bucket, or in none when one of them is empty.
// The attempt is counted before it is known whether it succeeds: else many at
// once would all be let through.
func (l *limits) take(keys ...counted) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range keys {
		if l.get(c.key, c.rule).tokens < 1 {
			return false
		}
	}
	for _, c := range keys {
		l.get(c.key, c.rule).tokens--
	}
	return true
}

// giveBack is for an attempt that succeeded.
func (l *limits) giveBack(keys ...counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range keys {
		b := l.get(c.key, c.rule)
		b.tokens = min(b.burst, b.tokens+1)
	}
}

// forget drops buckets that are full again.
func (l *limits) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(l.now())
}

func (l *limits) drop(now time.Time) {
	for key, b := range l.buckets {
		if b.refill(now); b.tokens >= b.burst {
			delete(l.buckets, key)
		}
	}
}

// begin limits the requests that anyone may make and that leave a row behind,
// and refuses secrets in URLs, which end in logs: op takes them from there too.
func (l *limits) begin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/oauth/token", "/revoke", "/device_authorization":
			if r.Method != http.MethodPost || r.URL.RawQuery != "" {
				w.Header().Set("Allow", http.MethodPost)
				http.Error(w, "send this as a form, by POST", http.StatusMethodNotAllowed)
				return
			}
		}
		if r.URL.Path == "/authorize" || r.URL.Path == "/device_authorization" {
			if !l.take(counted{"begin " + source(r), limitBegin}) {
				tooMany(w)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "30")
	http.Error(w, "too many attempts: wait half a minute", http.StatusTooManyRequests)
}

// source is the address of a request; of IPv6 the network, since one host has
// all of it.
func source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return ip.Mask(net.CIDRMask(64, 128)).String()
	}
	return host
}
