package monitoring

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFilesAreCurrent(t *testing.T) {
	for name, generate := range Files() {
		want, err := generate()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("../../docs/monitoring", name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("docs/monitoring/%s is not what is generated (%v): run go generate ./internal/monitoring", name, err)
		}
	}
}

// A panel that lies on another is shown by Grafana wherever there is room.
func TestPanelsDoNotOverlap(t *testing.T) {
	data, err := Dashboard()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s has the id of another panel", p.Title)
		}
		ids[p.ID] = true
		if p.GridPos.X+p.GridPos.W > gridWidth {
			t.Errorf("%s is wider than the page", p.Title)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, is := taken[at]; is {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
	}
	if len(d.Panels) < 20 {
		t.Errorf("%d panels", len(d.Panels))
	}
}

func TestAlertsSayWhatToDo(t *testing.T) {
	for _, r := range Alerts().Groups[0].Rules {
		if !strings.HasPrefix(r.Alert, "Fleet") || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || len(r.Annotations["description"]) < 40 {
			t.Errorf("%+v", r)
		}
	}
}

func TestQueriesAreBalanced(t *testing.T) {
	for _, q := range Queries() {
		for _, pair := range []string{"()", "{}", "[]"} {
			if strings.Count(q, pair[:1]) != strings.Count(q, pair[1:]) {
				t.Errorf("%s: %s do not match", q, pair)
			}
		}
	}
}
