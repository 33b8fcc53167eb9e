package sshconfig

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"strings"
)

// Tokens are the values that percent signs stand for, by letter (TOKENS of
// ssh_config(5)). %% always works.
type Tokens map[byte]string

// Expand replaces tokens. A token that is not in the map is an error.
func (t Tokens) Expand(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", fmt.Errorf("%q ends in a percent sign", s)
		}
		v, ok := t[s[i]]
		switch {
		case s[i] == '%':
			b.WriteByte('%')
		case ok:
			b.WriteString(v)
		default:
			return "", fmt.Errorf("%q: unknown token %%%c", s, s[i])
		}
	}
	return b.String(), nil
}

// ExpandEnv replaces ${NAME}. A variable that is not set is an error.
func ExpandEnv(s string, lookup func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("%q: ${ without }", s)
		}
		v, ok := "", false
		if lookup != nil {
			v, ok = lookup(name)
		}
		if !ok {
			return "", fmt.Errorf("the environment has no %s", name)
		}
		b.WriteString(v)
		s = after
	}
}

// connectionHash is %C: what tells one connection from another.
func connectionHash(localHost, host, port, user, jump string) string {
	sum := sha1.Sum([]byte(localHost + host + port + user + jump))
	return hex.EncodeToString(sum[:])
}
