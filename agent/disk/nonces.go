package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	noncesFile = "nonces.json"
	// MaxNonces bounds what is remembered. Only the control plane can make
	// an agent remember one, since commands are signed.
	MaxNonces = 4096
	// nonceMemory is how long a nonce is remembered beyond the expiry of its
	// command, so that a clock that is set back opens no window.
	nonceMemory = time.Hour
)

// Why a nonce is not accepted.
var (
	ErrReplayed = wire.ErrReplayed
	ErrFull     = errors.New("too many commands in a short time")
)

// Nonces remembers the nonces of commands, also across a restart: a command
// that was carried out before it must not be carried out again after it.
type Nonces struct {
	path string

	mu   sync.Mutex
	seen map[string]time.Time // until when the nonce is remembered
}

// OpenNonces reads what is remembered in dir. A torn file is an error beside a
// usable Nonces that starts empty.
func OpenNonces(dir string) (*Nonces, error) {
	n := &Nonces{path: filepath.Join(dir, noncesFile), seen: map[string]time.Time{}}
	data, err := readSummed(n.path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &n.seen)
	}
	if err != nil {
		n.seen = map[string]time.Time{}
		return n, fmt.Errorf("read nonces: %w", err)
	}
	return n, nil
}

// Use accepts a nonce once. It is on disk when Use returns nil.
func (n *Nonces) Use(nonce string, expires, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, until := range n.seen {
		if now.After(until) {
			delete(n.seen, k)
		}
	}
	if _, known := n.seen[nonce]; known {
		return ErrReplayed
	}
	if len(n.seen) >= MaxNonces {
		return ErrFull
	}
	n.seen[nonce] = expires.Add(nonceMemory)
	data, err := json.Marshal(n.seen)
	if err == nil {
		err = writeSummed(n.path, data)
	}
	if err != nil {
		return fmt.Errorf("remember nonce: %w", err)
	}
	return nil
}
