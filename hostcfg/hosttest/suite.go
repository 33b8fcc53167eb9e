package hosttest

import (
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/hostcfg"
)

// Case is one resource, or a few that belong together, in the shared suite.
type Case struct {
	Name      string
	Host      ScratchOptions
	Play      map[string]string // commands that the host plays: see Scratch.Play
	Before    string            // script that brings the host into the state before
	Resources []hostcfg.Resource
	After     string // script that fails unless the resources are there
}

// Suite checks what is demanded of every resource: planning writes nothing,
// the first run changes the host as the plan says, the second changes nothing,
// and after kill -9 at any command a re-run converges and leaves no stray
// file, no marker and no unit running with old files.
func Suite(t *testing.T, cases []Case) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			t.Run("changes once", c.changesOnce)
			t.Run("stops when the host changed", c.stopsWhenChanged)
			if !c.Host.Busybox { // its shell runs tools without asking PATH for the shims
				t.Run("survives kill", c.survivesKill)
			}
		})
	}
}

func (c Case) host(t *testing.T) *Scratch {
	t.Helper()
	s := NewScratch(t, c.Host)
	for command, script := range c.Play {
		s.Play(t, command, script)
	}
	if c.Before != "" {
		s.Sh(t, "set -e\n"+c.Before)
	}
	return s
}

func (c Case) changesOnce(t *testing.T) {
	s := c.host(t)
	before := s.Tree(t)
	plan := c.plan(t, ReadOnly(s))
	if !plan.Changed() {
		t.Fatal("the first plan changes nothing")
	}
	if d := Differ(before, s.Tree(t)); len(d) > 0 {
		t.Fatalf("planning touched %v", d)
	}
	out, err := plan.Apply(t.Context(), s, hostcfg.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if out.Changed != plan.ChangeCount() {
		t.Errorf("plan changes %d, apply changed %d", plan.ChangeCount(), out.Changed)
	}
	after := s.Tree(t)
	for _, name := range Differ(before, after) {
		if !announced(plan, name, before[name], after[name]) {
			t.Errorf("%s changed, but the plan does not name it", name)
		}
	}
	c.settled(t, s)
}

// consequences are paths that change along with a kind of resource without
// being named in the plan.
var consequences = map[string][]string{
	"group":     {"/etc/group", "/etc/gshadow", "/etc/.pwd.lock"},
	"user":      {"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/subuid", "/etc/subgid", "/etc/.pwd.lock", "/home/", "/var/mail"},
	"linger":    {"/var/lib/systemd/linger"},
	"unit":      {"/var/lib/units/"},
	"user-unit": {"/var/lib/units/"},
	"packages":  {"/var/lib/apt/lists", "/var/lib/pacman/sync", "/var/cache/apk"},
}

// announced says whether the plan names a path that changed, or it is a
// consequence. A directory that only got a new time stamp follows from what
// changed in it.
func announced(plan *hostcfg.Plan, name, before, after string) bool {
	if strings.HasPrefix(before, "d") && strings.HasPrefix(after, "d") {
		return true
	}
	for _, st := range plan.Steps {
		if !st.Changed() {
			continue
		}
		if strings.Contains(strings.Join(st.Changes, "\n"), name) {
			return true
		}
		for _, c := range consequences[st.Kind] {
			if strings.HasPrefix(name, c) || strings.HasPrefix(c, name+"/") {
				return true
			}
		}
	}
	return false
}

func (c Case) plan(t *testing.T, h hostcfg.Host) *hostcfg.Plan {
	t.Helper()
	plan, err := hostcfg.MakePlan(t.Context(), h, c.Resources)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// settled checks that the resources are there, that another run has nothing
// to do and does nothing, and that no run has left anything behind.
func (c Case) settled(t *testing.T, s *Scratch) {
	t.Helper()
	if c.After != "" {
		s.Sh(t, "set -e\n"+c.After)
	}
	before := s.Tree(t)
	again := c.plan(t, ReadOnly(s))
	for _, st := range again.Steps {
		if st.Changed() {
			t.Errorf("second run: %s wants to %v", st.ID, st.Changes)
		}
	}
	if _, err := again.Apply(t.Context(), ReadOnly(s), hostcfg.ApplyOptions{}); err != nil {
		t.Errorf("second run: %v", err)
	}
	if d := Differ(before, s.Tree(t)); len(d) > 0 {
		t.Errorf("second run touched %v", d)
	}
	if left := s.Sh(t, "find /etc /home /var /usr/local /boot -name '*.fleetctl-new' 2>/dev/null || :; ls /run/fleetctl/pending 2>/dev/null || :"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// stopsWhenChanged lets somebody else do the same first: what was planned is
// no longer what would happen, even if it ends the same.
func (c Case) stopsWhenChanged(t *testing.T) {
	s := c.host(t)
	stale := c.plan(t, s)
	if _, err := c.plan(t, s).Apply(t.Context(), s, hostcfg.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	before := s.Tree(t)
	_, err := stale.Apply(t.Context(), s, hostcfg.ApplyOptions{})
	if err == nil || !strings.Contains(err.Error(), hostcfg.ErrHostChanged.Error()) {
		t.Errorf("stale plan: error %v", err)
	}
	if d := Differ(before, s.Tree(t)); len(d) > 0 {
		t.Errorf("the stale plan touched %v", d)
	}
}

func (c Case) survivesKill(t *testing.T) {
	stride := 1
	if testing.Short() {
		stride = 5
	}
	for n := 1; ; n += stride {
		s := c.host(t)
		plan := c.plan(t, s)
		s.KillAt(t, n)
		_, err := plan.Apply(t.Context(), s, hostcfg.ApplyOptions{})
		struck := s.Disarm(t)
		if !struck {
			if n == 1 {
				t.Fatal("nothing was there to be killed at")
			}
			if err != nil {
				t.Errorf("not killed, yet: %v", err)
			}
			return
		}
		if _, err := c.plan(t, s).Apply(t.Context(), s, hostcfg.ApplyOptions{}); err != nil {
			t.Fatalf("re-run after a kill at command %d: %v", n, err)
		}
		if c.settled(t, s); t.Failed() {
			t.Fatalf("after a kill at command %d", n)
		}
	}
}
