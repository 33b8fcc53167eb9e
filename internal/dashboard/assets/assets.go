// Package assets holds the dashboard's script, style and icon, as browsers get
// them. scripts/dashboard-assets makes dist from src and the npm packages that
// package-lock.json pins; dist is committed, so that `go build` needs no Node.
package assets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed dist
var files embed.FS

// Prefix is where assets are served.
const Prefix = "/assets/"

// Set is the assets under URLs that change with their content, so that
// browsers keep them for ever.
type Set struct {
	Script, Style, Icon string
	byURL               map[string]*file
}

type file struct {
	media  string
	plain  []byte
	zipped []byte
}

// Load prepares the assets.
func Load() (*Set, error) {
	s := &Set{byURL: map[string]*file{}}
	for _, a := range []struct {
		name, media string
		url         *string
	}{
		{"app.js", "text/javascript; charset=utf-8", &s.Script},
		{"app.css", "text/css; charset=utf-8", &s.Style},
		{"icon.svg", "image/svg+xml", &s.Icon},
	} {
		f := &file{media: a.media}
		var err error
		if f.plain, err = files.ReadFile("dist/" + a.name); err != nil {
			return nil, fmt.Errorf("load assets: %w", err)
		}
		var zipped bytes.Buffer
		w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
		if err == nil {
			_, err = w.Write(f.plain)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("compress %s: %w", a.name, err)
		}
		f.zipped = zipped.Bytes()
		sum := sha256.Sum256(f.plain)
		ext := path.Ext(a.name)
		*a.url = Prefix + strings.TrimSuffix(a.name, ext) + "." + base64.RawURLEncoding.EncodeToString(sum[:9]) + ext
		s.byURL[*a.url] = f
	}
	return s, nil
}

// ServeHTTP serves an asset.
func (s *Set) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := s.byURL[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.media)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client is gone, or it is not
}
