package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
)

const imagesFile = "images.json"

// Resolution is the image that a reference stands for on this device, during
// one generation of a Deployment: a tag that moves meanwhile changes nothing.
type Resolution struct {
	Image      string `json:"image"` // the reference
	UID        string `json:"uid"`
	Generation int64  `json:"generation"`
	ID         string `json:"id"`
	Digest     string `json:"digest"`
}

// Images remembers what references stand for, by service, and which images are
// on the device because the agent fetched them.
type Images struct {
	path string

	mu   sync.Mutex
	data imagesData
}

type imagesData struct {
	Resolutions map[string]Resolution `json:"resolutions"`
	Own         map[string]bool       `json:"own"`
	Accepted    map[string][]string   `json:"accepted,omitempty"` // by container
}

// OpenImages reads what is remembered in dir. A torn file is an error beside a
// usable Images that starts empty.
func OpenImages(dir string) (*Images, error) {
	m := &Images{path: filepath.Join(dir, imagesFile)}
	data, err := readSummed(m.path)
	if err == nil {
		err = json.Unmarshal(data, &m.data)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		m.data, err = imagesData{}, fmt.Errorf("read images: %w", err)
	}
	if m.data.Resolutions == nil {
		m.data.Resolutions = map[string]Resolution{}
	}
	if m.data.Own == nil {
		m.data.Own = map[string]bool{}
	}
	return m, err
}

// Resolution gives what was resolved for a service last.
func (m *Images) Resolution(service string) (Resolution, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.data.Resolutions[service]
	return r, ok
}

// Resolve remembers a resolution; own says that the agent fetched the image.
func (m *Images) Resolve(service string, r Resolution, own bool) error {
	return m.change(func(d *imagesData) bool {
		if d.Resolutions[service] == r && (!own || d.Own[r.ID]) {
			return false
		}
		d.Resolutions[service] = r
		if own {
			d.Own[r.ID] = true
		}
		return true
	})
}

// Unresolve forgets a service that is gone.
func (m *Images) Unresolve(service string) error {
	return m.change(func(d *imagesData) bool {
		_, there := d.Resolutions[service]
		delete(d.Resolutions, service)
		return there
	})
}

// Own lists the ids of images that the agent fetched.
func (m *Images) Own() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.data.Own))
}

// Disown forgets an image that is gone.
func (m *Images) Disown(id string) error {
	return m.change(func(d *imagesData) bool {
		there := d.Own[id]
		delete(d.Own, id)
		return there
	})
}

// Accept remembers in what a container differed when the agent had just made
// it; nothing forgets the container.
func (m *Images) Accept(container string, what []string) error {
	return m.change(func(d *imagesData) bool {
		if len(what) == 0 {
			_, there := d.Accepted[container]
			delete(d.Accepted, container)
			return there
		}
		if d.Accepted == nil {
			d.Accepted = map[string][]string{}
		}
		d.Accepted[container] = what
		return true
	})
}

// Accepted gives what Accept remembered.
func (m *Images) Accepted(container string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.data.Accepted[container])
}

func (m *Images) change(f func(*imagesData) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !f(&m.data) {
		return nil
	}
	data, err := json.Marshal(m.data)
	if err == nil {
		err = writeSummed(m.path, data)
	}
	if err != nil {
		return fmt.Errorf("remember images: %w", err)
	}
	return nil
}
