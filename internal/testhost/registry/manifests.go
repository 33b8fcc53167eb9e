package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// maxManifest is what the distribution specification lets a registry refuse.
const maxManifest = 4 << 20

// manifests keeps on disk what the registry behind it holds in memory only. A
// restart puts the manifests again.
type manifests struct {
	dir  string
	next http.Handler
}

// stored is one manifest's file.
type stored struct {
	Path        string `json:"path"` // of its PUT
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
}

func (m manifests) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
		m.next.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	answer := httptest.NewRecorder()
	r.Body = io.NopCloser(bytes.NewReader(body))
	m.next.ServeHTTP(answer, r)
	if answer.Code == http.StatusCreated {
		if err := m.save(stored{Path: r.URL.Path, ContentType: r.Header.Get("Content-Type"), Body: body}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = answer.Body.WriteTo(w)
}

func (m manifests) save(s stored) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(m.dir, url.PathEscape(s.Path))
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// restore puts all manifests again. Those that an index lists go first: the
// index is refused while they are missing.
func (m manifests) restore() error {
	files, err := os.ReadDir(m.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all []stored
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".new") {
			continue // a write that was interrupted
		}
		data, err := os.ReadFile(filepath.Join(m.dir, f.Name()))
		if err != nil {
			return err
		}
		var s stored
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("decode %s: %w", f.Name(), err)
		}
		all = append(all, s)
	}
	for _, indexes := range []bool{false, true} {
		for _, s := range all {
			if isIndex(s.ContentType) == indexes {
				if err := m.put(s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (m manifests) put(s stored) error {
	r := httptest.NewRequest(http.MethodPut, s.Path, bytes.NewReader(s.Body))
	r.Header.Set("Content-Type", s.ContentType)
	answer := httptest.NewRecorder()
	m.next.ServeHTTP(answer, r)
	if answer.Code != http.StatusCreated {
		return fmt.Errorf("put %s: status %d: %s", s.Path, answer.Code, answer.Body)
	}
	return nil
}

func isIndex(contentType string) bool {
	return strings.Contains(contentType, "index") || strings.Contains(contentType, "manifest.list")
}
