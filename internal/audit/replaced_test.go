package audit_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/nationtech/fleetctl/internal/audit"
)

// TestReplaced: an editor writes a new file and renames it over the log. That
// shows at once, and no record goes into the file that nobody sees.
func TestReplaced(t *testing.T) {
	dir := dir(t)
	l := open(t, dir)
	fill(t, l, 2)
	path := filepath.Join(dir, "audit.jsonl")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", bytes.Replace(data, []byte("ada"), []byte("eve"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if r := query(t, l, audit.Filter{}); r.Intact {
		t.Error("not noticed")
	}
	if _, err := l.Append(audit.Record{Action: "ping"}, noon); err == nil || l.Usable() == nil {
		t.Errorf("append: %v, usable: %v", err, l.Usable())
	}
}
