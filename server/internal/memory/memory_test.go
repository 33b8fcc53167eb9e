package memory

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		machine, held uint64
		want          int64
	}{
		"a large machine":             {24 << 30, 1 << 30, 12 << 30},
		"a small one":                 {2 << 30, 100 << 20, 1 << 30},
		"one that is hardly enough":   {2 << 30, 2 << 30, 2560 << 20},
		"a process that holds little": {8 << 30, 0, 4 << 30},
	} {
		if got := limit(tt.machine, tt.held); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestGrowth(t *testing.T) {
	for name, tt := range map[string]struct {
		machine, held uint64
		want          int
	}{
		"much, and plenty of memory":  {24 << 30, 2 << 30, easy},
		"little":                      {24 << 30, 1<<30 - 1, usual},
		"much for the machine":        {24 << 30, 2<<30 + 1, usual},
		"a machine that is too small": {4 << 30, 1 << 30, usual},
	} {
		if got := growth(tt.machine, tt.held); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestTotal(t *testing.T) {
	if got, known := total("MemTotal:       24678412 kB\nMemFree:          123 kB\n"); !known || got != 24678412<<10 {
		t.Errorf("%d, %t", got, known)
	}
	for _, bad := range []string{"", "MemFree: 1 kB\n", "MemTotal: many kB\n"} {
		if got, known := total(bad); known {
			t.Errorf("%q: %d", bad, got)
		}
	}
	if bytes, known := machineBytes(); !known || bytes < 64<<20 {
		t.Errorf("this machine: %d, %t", bytes, known)
	}
}

func TestGroupLimit(t *testing.T) {
	root := t.TempDir()
	for path, limit := range map[string]string{"a": "max\n", "a/b": "2000\n", "a/b/c": "3000\n"} {
		dir := filepath.Join(root, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "memory.max"), []byte(limit), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const otherwise = 1 << 40
	for group, want := range map[string]uint64{
		"0::/a/b/c\n":                         2000,
		"0::/a\n":                             otherwise,
		"0::/\n":                              otherwise,
		"0::/gone\n":                          otherwise,
		"12:memory:/docker/x\n":               otherwise,
		"12:memory:/x\n0::/a/b\n1:cpuset:/\n": 2000,
		"":                                    otherwise,
	} {
		if got := groupLimit(root, group, otherwise); got != want {
			t.Errorf("%q: %d, want %d", group, got, want)
		}
	}
}
