package cli

import (
	"testing"
	"time"
)

func TestSecondsSince(t *testing.T) {
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	for text, want := range map[string]int64{
		"": 0, "10m": 600, "1ms": 1, "2026-11-24T07:59:00Z": 60, "2026-11-24T08:59:00+01:00": 60,
	} {
		if got, err := secondsSince(text, now); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"soon", "-1m", "0s", "2026-11-24T09:00:00Z"} {
		if got, err := secondsSince(bad, now); err == nil {
			t.Errorf("%q: %d", bad, got)
		}
	}
}
