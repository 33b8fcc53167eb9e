package sshhost

import (
	"net"
	"path/filepath"
	"strconv"
	"time"
)

// strictness is what becomes of a host key that is not known.
type strictness int

const (
	strictAsk strictness = iota
	strictYes            // refuse
	strictNo             // accept and record (accept-new, no, off); a changed key is refused all the same
)

// endpoint is one SSH server with everything that the configuration says
// about reaching it.
type endpoint struct {
	user string
	host string // what is connected to
	port int

	hostKeyAlias     string
	knownHosts       []string // new keys go to the first
	globalKnownHosts []string
	hashKnownHosts   bool
	strict           strictness

	identities     []identity
	certificates   []string
	identitiesOnly bool
	agentSocket    string
	noKeys         bool
	noPassword     bool
	noInteractive  bool

	proxyCommand string
	timeout      time.Duration
	keepAlive    time.Duration // 0 is none
}

func (e *endpoint) address() string { return net.JoinHostPort(e.host, strconv.Itoa(e.port)) }

func (e *endpoint) name() string { return e.user + "@" + e.address() }

// keyAddress is under which the host's key is known. An alias stands for the
// host whatever its port.
func (e *endpoint) keyAddress() string {
	if e.hostKeyAlias != "" {
		return net.JoinHostPort(e.hostKeyAlias, "22")
	}
	return e.address()
}

// defaultIdentities are the key files that ssh tries when none is configured.
func defaultIdentities(home string) []identity {
	var ids []identity
	for _, name := range []string{"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"} {
		ids = append(ids, identity{path: filepath.Join(home, ".ssh", name), implied: true})
	}
	return ids
}
