package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	desiredFile  = "desired.json"
	previousFile = "desired.previous.json"
)

// Desired is a manifest that was accepted, and the desired states that came
// with it, as they were received.
type Desired struct {
	SchemaVersion int           `json:"schemaVersion"`
	Manifest      wire.Manifest `json:"manifest"`
	// States may lack an entry of the manifest, or hold its previous
	// version, when the new one could not be fetched; its hash tells.
	States map[string][]byte `json:"states"`
}

// Current gives the state of an entry if it is the one the manifest names.
func (d *Desired) Current(e wire.ManifestEntry) (data []byte, ok bool) {
	data, ok = d.States[e.Name]
	return data, ok && wire.Hash(data) == e.SHA256
}

// SaveDesired writes d, keeping what was there as the previous version.
func SaveDesired(dir string, d *Desired) error {
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode desired state: %w", err)
	}
	current, previous := filepath.Join(dir, desiredFile), filepath.Join(dir, previousFile)
	if err := keep(current, previous); err != nil {
		return fmt.Errorf("keep previous desired state: %w", err)
	}
	if err := writeSummed(current, data); err != nil {
		return fmt.Errorf("write desired state: %w", err)
	}
	return nil
}

// keep makes previous a second name of current, unless current is torn: then
// previous is the better one of the two.
func keep(current, previous string) error {
	if _, err := readSummed(current); err != nil {
		return nil
	}
	if err := os.Remove(previous); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(current, previous)
}

// LoadDesired reads what SaveDesired wrote. When that is torn it gives the
// previous version, and says so in problem. Without either, d is nil; a fresh
// device has no problem.
func LoadDesired(dir string) (d *Desired, problem error) {
	for _, name := range []string{desiredFile, previousFile} {
		path := filepath.Join(dir, name)
		data, err := readSummed(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		d := &Desired{}
		if err == nil {
			err = json.Unmarshal(data, d)
		}
		if err != nil {
			problem = errors.Join(problem, fmt.Errorf("read desired state: %w", err))
			continue
		}
		return d, problem
	}
	return nil, problem
}
