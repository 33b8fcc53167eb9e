package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json" // refuses two claims of one name
)

// check says whether the claims of a well-signed token are good here and now
// (RFC 7519, 4.1).
func (v *Verifier) check(payload []byte) (Claims, error) {
	var raw map[string]any
	if err := json.Unmarshal(payload, &raw); err != nil {
		return Claims{}, fmt.Errorf("%w: its claims are no JSON object", ErrMalformed)
	}
	if iss, _ := raw["iss"].(string); iss != v.cfg.Issuer {
		return Claims{}, fmt.Errorf("%w: %q", ErrIssuer, clip(iss))
	}
	if !slices.ContainsFunc(texts(raw["aud"]), func(a string) bool { return slices.Contains(v.cfg.Audiences, a) }) {
		return Claims{}, ErrAudience
	}
	now := v.cfg.Clock()
	expiry, ok := instant(raw["exp"])
	switch {
	case !ok:
		return Claims{}, fmt.Errorf("%w: it never expires", ErrMalformed)
	case !now.Add(-v.cfg.Leeway).Before(expiry):
		return Claims{}, fmt.Errorf("%w: %s ago", ErrExpired, now.Sub(expiry).Round(time.Second))
	}
	for _, name := range []string{"nbf", "iat"} {
		value, present := raw[name]
		if !present {
			continue
		}
		from, ok := instant(value)
		if !ok {
			return Claims{}, fmt.Errorf("%w: its %s is no time", ErrMalformed, name)
		}
		if from.After(now.Add(v.cfg.Leeway)) {
			return Claims{}, fmt.Errorf("%w: its %s is %s ahead of this clock", ErrNotYetValid, name, from.Sub(now).Round(time.Second))
		}
	}
	c := Claims{Expiry: expiry, Raw: raw, Roles: roles(lookup(raw, v.cfg.RolesClaim))}
	for name, field := range map[string]*string{"sub": &c.Subject, "preferred_username": &c.Username, "name": &c.Name, "email": &c.Email} {
		*field, _ = raw[name].(string)
	}
	if c.Subject == "" {
		return Claims{}, fmt.Errorf("%w: it names no subject", ErrMalformed)
	}
	if v.cfg.IDClaim != "" {
		c.ID, _ = lookup(raw, v.cfg.IDClaim).(string)
	}
	return c, nil
}

// RolesAt reads roles as Config.RolesClaim says, from claims that somebody else
// has checked or that are only shown.
func RolesAt(claims map[string]any, path string) []string { return roles(lookup(claims, path)) }

// lookup finds a claim by its name, else by a path of names with dots between.
func lookup(claims map[string]any, path string) any {
	if value, ok := claims[path]; ok {
		return value
	}
	first, rest, nested := strings.Cut(path, ".")
	if inner, ok := claims[first].(map[string]any); ok && nested {
		return lookup(inner, rest)
	}
	return nil
}

// roles reads what issuers make of roles: Zitadel {"role": {...}}, others
// ["role"] or "role".
func roles(claim any) []string {
	if object, ok := claim.(map[string]any); ok {
		return slices.Sorted(maps.Keys(object))
	}
	return slices.Sorted(slices.Values(texts(claim)))
}

// texts reads a string or a list of strings.
func texts(claim any) []string {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// instant reads a NumericDate. Numbers no calendar has are none.
func instant(claim any) (time.Time, bool) {
	seconds, ok := claim.(float64)
	if !ok || seconds < 0 || seconds > 1<<40 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(seconds * 1000)), true
}
