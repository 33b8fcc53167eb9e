package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
)

const (
	runsFile = "runs.json"
	ended    = "ended" // in place of a boot id
)

// Runs remembers in which boot a container was started last, and whether it
// was seen to end. A container that a reboot ended looks like one that came to
// its end: both have exited, and clocks are not to be trusted after a boot.
type Runs struct {
	path string
	boot string

	mu   sync.Mutex
	last map[string]string // container id → boot id, or ended
}

// OpenRuns reads what is remembered in dir; boot names the boot that it is
// now. A torn file is an error beside a usable Runs that starts empty.
func OpenRuns(dir, boot string) (*Runs, error) {
	r := &Runs{path: filepath.Join(dir, runsFile), boot: boot, last: map[string]string{}}
	data, err := readSummed(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r.last)
	}
	if err != nil {
		r.last = map[string]string{}
		return r, fmt.Errorf("read runs: %w", err)
	}
	return r, nil
}

// Started notes that the container runs in this boot.
func (r *Runs) Started(container string) error { return r.note(container, r.boot) }

// Ended notes that the container came to its end.
func (r *Runs) Ended(container string) error { return r.note(container, ended) }

// Forget drops a container that is gone.
func (r *Runs) Forget(container string) error { return r.note(container, "") }

// Interrupted says that the container ran in an earlier boot, and was not seen
// to end in it.
func (r *Runs) Interrupted(container string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last[container]
	return last != "" && last != ended && last != r.boot
}

func (r *Runs) note(container, value string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last[container] == value {
		return nil
	}
	if value == "" {
		delete(r.last, container)
	} else {
		r.last[container] = value
	}
	data, err := json.Marshal(r.last)
	if err == nil {
		err = writeSummed(r.path, data)
	}
	if err != nil {
		return fmt.Errorf("remember run of a container: %w", err)
	}
	return nil
}
