package proxy

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOnlyMirrorsAndOnlyReading(t *testing.T) {
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path)
	}))
	defer mirror.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(l, []string{strings.TrimPrefix(mirror.URL, "http://")})
	defer s.Close()
	via := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: s.Addr()})}}

	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, tc := range []struct {
		method, url string
		status      int
		body        string
	}{
		{http.MethodGet, mirror.URL + "/debian/x.deb", 200, "GET /debian/x.deb"},
		{http.MethodHead, mirror.URL + "/debian/x.deb", 200, ""},
		{http.MethodPost, mirror.URL + "/debian/x.deb", 405, ""},
		{http.MethodDelete, mirror.URL + "/debian/x.deb", 405, ""},
		{http.MethodGet, other.URL + "/", 403, ""},
	} {
		req, err := http.NewRequest(tc.method, tc.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := via.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", tc.method, tc.url, err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != tc.status || tc.body != "" && string(body) != tc.body {
			t.Errorf("%s %s: status %d, body %q (%v); want %d, %q", tc.method, tc.url, resp.StatusCode, body, err, tc.status, tc.body)
		}
	}
	resp, err := via.Get("https://example.invalid/")
	if err == nil {
		_ = resp.Body.Close()
		t.Error("the proxy opened a tunnel")
	}
}

func TestMirrorsOfBothFormats(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{
		"etc/apt/sources.list":                 "# deb http://commented.example/ x main\ndeb [arch=amd64] http://one.example:8080/debian stable main\n",
		"etc/apt/sources.list.d/two.sources":   "Types: deb\n# http://snapshot.example/\nURIs: http://two.example/debian http://three.example/\nSuites: x\n",
		"etc/apt/sources.list.d/https.sources": "Types: deb\nURIs: https://tls.example/\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Mirrors(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one.example:8080", "two.example", "three.example"} {
		if !slices.Contains(got, want) {
			t.Errorf("%v lacks %s", got, want)
		}
	}
	for _, never := range []string{"commented.example", "snapshot.example", "tls.example"} {
		if slices.Contains(got, never) {
			t.Errorf("%v holds %s", got, never)
		}
	}
}
