package audit_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/audit"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string) *audit.Log {
	t.Helper()
	l, err := audit.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func fill(t *testing.T, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(audit.Record{Who: []string{"ada", "bob"}[i%2], Subject: "s1", Action: "ping",
			Device: fmt.Sprintf("pi-%d", i), From: "127.0.0.1", Outcome: "ok"}, noon.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
}

func query(t *testing.T, l *audit.Log, f audit.Filter) audit.Result {
	t.Helper()
	r, err := l.Query(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func dir(t *testing.T) string { return filepath.Join(t.TempDir(), "audit") }

func TestQuery(t *testing.T) {
	l := open(t, dir(t))
	if r := query(t, l, audit.Filter{}); !r.Intact || len(r.Records) != 0 {
		t.Errorf("empty: %+v", r)
	}
	fill(t, l, 6)
	for name, tt := range map[string]struct {
		filter audit.Filter
		want   []string
	}{
		"all":     {audit.Filter{}, []string{"pi-0", "pi-1", "pi-2", "pi-3", "pi-4", "pi-5"}},
		"since":   {audit.Filter{Since: noon.Add(4 * time.Minute)}, []string{"pi-4", "pi-5"}},
		"device":  {audit.Filter{Device: "pi-3"}, []string{"pi-3"}},
		"who":     {audit.Filter{Who: "bob"}, []string{"pi-1", "pi-3", "pi-5"}},
		"subject": {audit.Filter{Who: "s1", Limit: 2}, []string{"pi-4", "pi-5"}},
		"nobody":  {audit.Filter{Who: "eve"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := query(t, l, tt.filter)
			var got []string
			for _, record := range r.Records {
				got = append(got, record.Device)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) || !r.Intact || r.Last != 6 {
				t.Errorf("got %v, intact %v, last %d", got, r.Intact, r.Last)
			}
		})
	}
}

// TestTampering: whatever is done to the file by hand shows.
func TestTampering(t *testing.T) {
	for name, change := range map[string]func(lines [][]byte) [][]byte{
		"edited":   func(l [][]byte) [][]byte { l[2] = bytes.Replace(l[2], []byte("ada"), []byte("eve"), 1); return l },
		"removed":  func(l [][]byte) [][]byte { return append(l[:2:2], l[3:]...) },
		"first":    func(l [][]byte) [][]byte { return l[1:] },
		"cut":      func(l [][]byte) [][]byte { return l[:4] },
		"all":      func([][]byte) [][]byte { return nil },
		"swapped":  func(l [][]byte) [][]byte { l[1], l[2] = l[2], l[1]; return l },
		"repeated": func(l [][]byte) [][]byte { return append(l, l[4]) },
		"nonsense": func(l [][]byte) [][]byte { l[3] = []byte("x\n"); return l },
	} {
		t.Run(name, func(t *testing.T) {
			dir := dir(t)
			l := open(t, dir)
			fill(t, l, 5)
			path := filepath.Join(dir, "audit.jsonl")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, bytes.Join(change(bytes.SplitAfter(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))), nil), 0o600); err != nil {
				t.Fatal(err)
			}
			if r := query(t, l, audit.Filter{}); r.Intact || len(r.Damage) == 0 {
				t.Errorf("not noticed: %+v", r)
			}
			// Nor does a restart or a new record cover it up.
			again := open(t, dir)
			fill(t, again, 1)
			if r := query(t, again, audit.Filter{}); r.Intact {
				t.Error("not noticed after a restart and a new record")
			}
		})
	}
}

// TestCrash: half a record is gone after a restart, and nothing else is.
func TestCrash(t *testing.T) {
	dir := dir(t)
	fill(t, open(t, dir), 3)
	f, err := os.OpenFile(filepath.Join(dir, "audit.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"sequence":4,"at":"20`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l := open(t, dir)
	fill(t, l, 1)
	if r := query(t, l, audit.Filter{}); !r.Intact || len(r.Records) != 4 || r.Last != 4 {
		t.Errorf("%+v", r)
	}
}

func TestTogether(t *testing.T) {
	l := open(t, dir(t))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { fill(t, l, 10) })
	}
	wg.Wait()
	if r := query(t, l, audit.Filter{}); !r.Intact || len(r.Records) != 80 {
		t.Errorf("intact %v, %d records, %v", r.Intact, len(r.Records), r.Damage)
	}
}

// TestNotWritable: once a record could not be written, nothing more is allowed.
func TestNotWritable(t *testing.T) {
	l := open(t, dir(t))
	fill(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(audit.Record{Action: "ping"}, noon); err == nil || l.Usable() == nil {
		t.Errorf("append: %v, usable: %v", err, l.Usable())
	}
}

// Many who write at the same time get each their own place in the chain, and
// what they were told is there.
func TestManyAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := open(t, dir)
	var all sync.WaitGroup
	var mu sync.Mutex
	told := map[uint64]string{}
	for i := range 50 {
		all.Go(func() {
			r, err := l.Append(audit.Record{Who: fmt.Sprint("user-", i), Action: "enrol", Outcome: "ok"}, time.Now())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			told[r.Sequence] = r.Hash
		})
	}
	all.Wait()
	got, err := open(t, dir).Query(audit.Filter{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	if len(told) != 50 || len(got.Records) != 50 || len(got.Damage) > 0 {
		t.Errorf("%d numbers were told, %d records found, damage %v", len(told), len(got.Records), got.Damage)
	}
	for _, r := range got.Records {
		if told[r.Sequence] != r.Hash {
			t.Errorf("record %d is another than was told", r.Sequence)
		}
	}
}
