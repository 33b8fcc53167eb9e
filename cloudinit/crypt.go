package cloudinit

import (
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"strings"
)

// HashPassword makes a crypt(5) string of the SHA-512 method, "$6$", which
// every Linux guest knows: Drepper, "Unix crypt using SHA-256 and SHA-512".
func HashPassword(password string) (string, error) {
	raw := make([]byte, saltLength)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	salt := make([]byte, saltLength)
	for i, b := range raw {
		salt[i] = cryptAlphabet[b%64]
	}
	return sha512Crypt([]byte(password), salt), nil
}

const (
	saltLength    = 16
	rounds        = 5000 // the method's default, which is not written out
	cryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// sha512Crypt follows the steps of the specification, whose numbers stand
// beside them.
func sha512Crypt(key, salt []byte) string {
	b := sha512.New() // 4–8
	b.Write(key)
	b.Write(salt)
	b.Write(key)
	alternate := b.Sum(nil)

	a := sha512.New() // 1–3, 9–12
	a.Write(key)
	a.Write(salt)
	a.Write(repeat(alternate, len(key)))
	for n := len(key); n > 0; n >>= 1 {
		if n&1 != 0 {
			a.Write(alternate)
		} else {
			a.Write(key)
		}
	}
	sum := a.Sum(nil)

	dp := sha512.New() // 13–16
	for range key {
		dp.Write(key)
	}
	p := repeat(dp.Sum(nil), len(key))

	ds := sha512.New() // 17–20
	for range 16 + int(sum[0]) {
		ds.Write(salt)
	}
	s := repeat(ds.Sum(nil), len(salt))

	for i := range rounds { // 21
		c := sha512.New()
		either := func(first bool) {
			if first {
				c.Write(p)
			} else {
				c.Write(sum)
			}
		}
		either(i%2 != 0)
		if i%3 != 0 {
			c.Write(s)
		}
		if i%7 != 0 {
			c.Write(p)
		}
		either(i%2 == 0)
		sum = c.Sum(nil)
	}
	return "$6$" + string(salt) + "$" + encode64(sum)
}

// repeat gives the first n bytes of the block repeated.
func repeat(block []byte, n int) []byte {
	return []byte(strings.Repeat(string(block), n/len(block)+1))[:n]
}

// encode64 writes the digest in the method's order (22): three bytes at a time,
// 21 apart, each group rotated against the one before.
func encode64(sum []byte) string {
	var out strings.Builder
	put := func(v uint32, n int) {
		for range n {
			out.WriteByte(cryptAlphabet[v&63])
			v >>= 6
		}
	}
	i, j, k := 0, 21, 42
	for range 21 {
		put(uint32(sum[i])<<16|uint32(sum[j])<<8|uint32(sum[k]), 4)
		i, j, k = j+1, k+1, i+1
	}
	put(uint32(sum[63]), 2)
	return out.String()
}
