package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
)

const intentsFile = "stopped.json"

// Intents remembers which services a person stopped on purpose. They stay
// stopped, across reboots and new versions, until they are started.
type Intents struct {
	path string

	mu      sync.Mutex
	stopped map[string]bool
}

// OpenIntents reads what is remembered in dir. A torn file is an error beside
// a usable Intents that starts empty.
func OpenIntents(dir string) (*Intents, error) {
	i := &Intents{path: filepath.Join(dir, intentsFile), stopped: map[string]bool{}}
	data, err := readSummed(i.path)
	if errors.Is(err, fs.ErrNotExist) {
		return i, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &i.stopped)
	}
	if err != nil {
		i.stopped = map[string]bool{}
		return i, fmt.Errorf("read which services were stopped: %w", err)
	}
	return i, nil
}

// Stopped says whether a service is to stay stopped.
func (i *Intents) Stopped(service string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.stopped[service]
}

// SetStopped remembers that a service is to stay stopped, or no longer. It is
// on disk when SetStopped returns nil.
func (i *Intents) SetStopped(service string, stopped bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped[service] == stopped {
		return nil
	}
	if stopped {
		i.stopped[service] = true
	} else {
		delete(i.stopped, service)
	}
	data, err := json.Marshal(i.stopped)
	if err == nil {
		err = writeSummed(i.path, data)
	}
	if err != nil {
		return fmt.Errorf("remember which services are stopped: %w", err)
	}
	return nil
}
