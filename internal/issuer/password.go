package issuer

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// OWASP's recommendation for argon2id: 19 MiB, two passes, one lane.
const (
	argonMemory  = 19 * 1024 // KiB
	argonTime    = 2
	argonThreads = 1
	argonKey     = 32

	hashesAtOnce = 2 // 19 MiB each
	maxPassword  = 256
)

var b64 = base64.RawStdEncoding

// hashPassword gives the PHC string of a password.
func hashPassword(password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	sum := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonThreads, argonKey)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(sum))
}

// checkPassword says whether password belongs to a PHC string. It takes as long
// for one that cannot be read.
func checkPassword(phc, password string) bool {
	var version, memory, passes uint32
	var threads uint8
	var saltText, sumText string
	n, err := fmt.Sscanf(phc, "$argon2id$v=%d$m=%d,t=%d,p=%d$%22s$%43s", &version, &memory, &passes, &threads, &saltText, &sumText)
	if err != nil || n != 6 || version != argon2.Version {
		argon2.IDKey([]byte(password), make([]byte, 16), argonTime, argonMemory, argonThreads, argonKey)
		return false
	}
	salt, err1 := b64.DecodeString(saltText)
	sum, err2 := b64.DecodeString(sumText)
	if err1 != nil || err2 != nil {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, threads, uint32(len(sum)))
	return subtle.ConstantTimeCompare(got, sum) == 1
}
