package logging

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

func TestEachPlaceGetsItsShare(t *testing.T) {
	var stderr bytes.Buffer
	l := Open(t.TempDir(), &stderr, slog.LevelInfo)
	l.Info("for people")
	l.Debug("for the file")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := stderr.String(); !strings.Contains(got, "for people") || strings.Contains(got, "for the file") {
		t.Errorf("stderr has %q", got)
	}
	file, err := os.ReadFile(l.Path())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(file, []byte("for people")) || !bytes.Contains(file, []byte("for the file")) {
		t.Errorf("the file has %q", file)
	}
	if last := l.Last(1); len(last) != 1 || !strings.Contains(last[0], "for the file") {
		t.Errorf("the last line is %q", last)
	}
	if info, err := os.Stat(l.Path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log file: %v, %v", info.Mode(), err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	l := Open(t.TempDir(), &bytes.Buffer{}, slog.LevelInfo)
	defer func() { _ = l.Close() }()
	const records = 5*linesKept + 7
	for i := range records {
		l.Debug("record", "number", i)
	}
	last := l.Last(records)
	if len(last) != linesKept {
		t.Fatalf("%d lines kept, want %d", len(last), linesKept)
	}
	for i, line := range last {
		if want := fmt.Sprintf("number=%d", records-linesKept+i); !strings.Contains(line, want) {
			t.Fatalf("line %d is %q, want %s", i, line, want)
		}
	}
	if held := len(l.tail.lines); held > 2*linesKept {
		t.Errorf("%d lines in memory", held)
	}
}
