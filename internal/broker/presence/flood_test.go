package presence

import (
	"testing"
	"time"
)

// seen is one look at connections of a server.
func seen(now time.Time, connections ...listed) []connz {
	var c connz
	c.Server.ID, c.Data.Now, c.Data.Connections = "n1", now, connections
	return []connz{c, c} // in more than one order
}

func TestGuardMeasures(t *testing.T) {
	limits := Limits{Messages: 100, Bytes: 1000, Burst: 2 * time.Second, Unread: 50, Pause: time.Second, MaxPause: time.Minute}
	begin := time.Unix(1_700_000_000, 0)
	for name, tt := range map[string]struct {
		started time.Time
		looks   []listed // a second apart
		at      int      // the look that finds it; -1: none
	}{
		"a quiet one":                {begin, []listed{{Messages: 1, Bytes: 9}, {Messages: 2, Bytes: 18}, {Messages: 3, Bytes: 30}}, -1},
		"just at the limit":          {begin, []listed{{Messages: 100}, {Messages: 200}, {Messages: 300}, {Messages: 400}, {Messages: 500}}, -1},
		"a burst":                    {begin, []listed{{Bytes: 10}, {Bytes: 2900}, {Bytes: 2900}, {Bytes: 4900}}, -1},
		"many messages":              {begin, []listed{{Messages: 150}, {Messages: 300}, {Messages: 450}, {Messages: 600}, {Messages: 751}}, 2},
		"many bytes":                 {begin, []listed{{Bytes: 2000}, {Bytes: 4000}, {Bytes: 6001}}, 1},
		"many before the first look": {begin.Add(-time.Second), []listed{{Bytes: 4001}}, 0},
		"much, but over an hour":     {begin.Add(-time.Hour), []listed{{Bytes: 3_000_000}, {Bytes: 3_001_000}}, -1},
		"after an hour":              {begin.Add(-time.Hour), []listed{{Bytes: 1000}, {Bytes: 4000}, {Bytes: 7000}}, 2},
		"it does not read":           {begin, []listed{{Pending: 51}, {Pending: 51}}, 1},
		"it reads late":              {begin, []listed{{Pending: 51}, {Pending: 0}, {Pending: 51}}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewGuard(limits)
			found := -1
			for i, look := range tt.looks {
				look.CID, look.User, look.Start = 7, "pi-1", tt.started
				now := begin.Add(time.Duration(i) * time.Second)
				if floods := g.judge(seen(now, look)); len(floods) > 0 && found < 0 {
					found = i
				}
			}
			if found != tt.at {
				t.Errorf("found at look %d, want %d", found, tt.at)
			}
			if g.Held("pi-1") != (tt.at >= 0) || g.Held("pi-2") {
				t.Error("somebody else is held, or nobody")
			}
		})
	}
}

// Each time is twice as long as the one before, until it behaves for a while.
func TestGuardHolds(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	g := NewGuard(Limits{Pause: time.Second, MaxPause: 4 * time.Second})
	g.now = func() time.Time { return now }
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
		if got := g.hold("pi-1"); got != want {
			t.Fatalf("time %d: held for %s, want %s", i, got, want)
		}
		if !g.Held("pi-1") || g.Held("pi-2") {
			t.Fatalf("time %d: not held, or somebody else is", i)
		}
		now = now.Add(want)
		if g.Held("pi-1") {
			t.Fatalf("time %d: held for ever", i)
		}
	}
	now = now.Add(5 * time.Second)
	if got := g.hold("pi-1"); got != time.Second {
		t.Errorf("after a good time held for %s", got)
	}
}

func TestLooksFollowTheSizeOfTheFleet(t *testing.T) {
	limits := Limits{Every: 2 * time.Second, PerConnection: time.Millisecond}
	for connections, want := range map[int]time.Duration{0: 2 * time.Second, 100: 2 * time.Second, 2001: 2001 * time.Millisecond, 10_000: 10 * time.Second} {
		answers := []connz{{}, {}}
		answers[0].Data.Total = connections
		if got := limits.untilNext(answers); got != want {
			t.Errorf("%d connections: %s, want %s", connections, got, want)
		}
	}
}
