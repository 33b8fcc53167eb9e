package signing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
)

// ErrReadOnly says that these keys are somebody else's to change.
var ErrReadOnly = errors.New("the signing keys cannot be changed from here")

// mounted is a directory that somebody else made, such as a Secret mounted into
// a pod, whose files all of the pod may read.
type mounted string

// Load reads the keys in such a directory. It makes no key, and changes none.
func Load(dir string) (*Signer, error) {
	store := mounted(dir)
	files, err := store.Read(context.Background())
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no keys", dir)
	}
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("load signing key: %w", err), "it comes from the Secret that fleetctl server install made")
	}
	s := &Signer{store: store, changed: make(chan struct{})}
	s.keys, err = parseFiles(files)
	return s, err
}

func (m mounted) Read(context.Context) (map[string][]byte, error) {
	return readFiles(func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(string(m), name)) })
}

func (mounted) Write(context.Context, string, []byte) error { return ErrReadOnly }

func (mounted) Remove(context.Context, string) error { return ErrReadOnly }

// Follow takes over what others change in the store, with a look every so
// often, until ctx ends.
func (s *Signer) Follow(ctx context.Context, every time.Duration, log *slog.Logger) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			log.Warn("signing keys cannot be read; those of before stay in force", "error", err)
		}
	}
}

func (s *Signer) look(ctx context.Context) error {
	s.write.Lock()
	defer s.write.Unlock()
	files, err := s.store.Read(ctx)
	if err != nil {
		return err
	}
	k, err := parseFiles(files)
	if err != nil {
		return err
	}
	if now := s.snapshot(); k.state.after(&now.state) {
		s.set(k)
	}
	return nil
}

// after says whether a is a later state than b: a copy of the store may be
// behind what is in force here.
func (a *state) after(b *state) bool {
	if a.Revision != b.Revision {
		return a.Revision > b.Revision
	}
	return a.Phase == Switched && b.Phase == Announced
}
