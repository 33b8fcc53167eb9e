package assets

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// TestDistIsCurrent: dist was made from what is in src and from the packages
// that the lock file pins. That it was made faithfully is checked, with npm, by
// `scripts/dashboard-assets --check`.
func TestDistIsCurrent(t *testing.T) {
	sources, err := files.ReadFile("dist/SOURCES")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(sources)), "\n")
	if len(lines) < 4 {
		t.Fatalf("dist/SOURCES names %d files", len(lines))
	}
	for _, line := range lines {
		sum, name, _ := strings.Cut(line, "  ")
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
			t.Errorf("%s changed since dist was made; run scripts/dashboard-assets", name)
		}
	}
}

func TestAssetsAreServedForEver(t *testing.T) {
	set, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{set.Script, set.Style, set.Icon} {
		w := httptest.NewRecorder()
		set.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
		if w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Body.Len() == 0 {
			t.Errorf("%s: %d %v", url, w.Code, w.Header())
		}
	}
	w := httptest.NewRecorder()
	set.ServeHTTP(w, httptest.NewRequest("GET", Prefix+"app.js", nil))
	if w.Code != 404 {
		t.Errorf("an asset without its hash: %d", w.Code)
	}
}
