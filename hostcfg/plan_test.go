package hostcfg_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/hosttest"
	"github.com/nationtech/fleetctl/internal/hint"
)

func mustPlan(t *testing.T, h hostcfg.Host, r ...hostcfg.Resource) *hostcfg.Plan {
	t.Helper()
	p, err := hostcfg.MakePlan(t.Context(), h, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestHostsThatAreRefused plans for hosts in a state that we must not touch.
func TestHostsThatAreRefused(t *testing.T) {
	unit := hostcfg.SystemUnit{Name: "a.service", Run: hostcfg.On}
	for _, c := range []struct {
		name, before, want string
		host               hosttest.ScratchOptions
		resource           hostcfg.Resource
	}{
		{name: "directory in the way of a file", before: "mkdir /etc/a", resource: hostcfg.File{Path: "/etc/a"}, want: "/etc/a is a directory, not a file"},
		{name: "pipe in the way", before: "mkfifo /etc/a", resource: hostcfg.File{Path: "/etc/a"}, want: "/etc/a is a other, not a file"},
		{name: "file in the way of a directory", before: "touch /etc/a", resource: hostcfg.Directory{Path: "/etc/a"}, want: "is a file, not a directory"},
		{name: "file in the way of a link", before: "touch /etc/a", resource: hostcfg.Symlink{Path: "/etc/a", Target: "b"}, want: "is a file, not a link"},
		{name: "directory not empty", before: "mkdir /etc/a; touch /etc/a/b", resource: hostcfg.Absent{Path: "/etc/a"}, want: "/etc/a is not empty: it holds /etc/a/b"},
		{name: "uid", resource: hostcfg.User{Name: "pi", UID: 7}, want: "user pi has uid 1000, not 7"},
		{name: "gid", resource: hostcfg.Group{Name: "adm", GID: 7}, want: "group adm has gid 4, not 7"},
		{name: "subordinate ids overlap", before: "echo agent:120000:65536 >>/etc/subuid", resource: hostcfg.User{Name: "agent", SubIDs: true}, want: "range agent:120000:65536 of agent overlaps pi:100000:65536"},
		{name: "subordinate ids used up", before: "echo x:165536:4294800000 >>/etc/subgid", resource: hostcfg.User{Name: "agent", SubIDs: true}, want: "/etc/subgid: no 65536 subordinate ids in a row are free"},
		{name: "marker twice", before: "printf '# BEGIN fleetctl x\\n# BEGIN fleetctl x\\n' >/etc/hosts", resource: hostcfg.Block{Path: "/etc/hosts", Name: "x"}, want: `line "# BEGIN fleetctl x" is there twice`},
		{name: "marker without end", before: "echo '# BEGIN fleetctl x' >/etc/hosts", resource: hostcfg.Block{Path: "/etc/hosts", Name: "x"}, want: "without its end"},
		{name: "marker without begin", before: "echo '# END fleetctl x' >/etc/hosts", resource: hostcfg.Block{Path: "/etc/hosts", Name: "x"}, want: "without its begin"},
		{name: "block in a huge file", before: "truncate -s 2M /etc/hosts", resource: hostcfg.Block{Path: "/etc/hosts", Name: "x", Content: "a"}, want: "larger than"},
		{name: "no command line", resource: hostcfg.KernelArg{Arg: "cgroup_enable=memory"}, want: "no kernel command line found"},
		{name: "unit does not exist", host: hosttest.ScratchOptions{Systemd: true}, resource: unit, want: "unit a.service does not exist"},
		{name: "no systemd", host: hosttest.ScratchOptions{OSRelease: "ID=alpine\nPRETTY_NAME=\"Alpine Linux v3.20\"\n"}, resource: unit, want: "Alpine Linux v3.20 runs"},
		{name: "no systemd to linger", resource: hostcfg.Linger{User: "pi"}, want: "not systemd"},
		{name: "unknown distribution", host: hosttest.ScratchOptions{OSRelease: "ID=plan9\nPRETTY_NAME=Plan9\n"}, resource: hostcfg.Packages{Names: []string{"podman"}}, want: `no way is known to install packages on "Plan9"`},
		{name: "known distribution without its tools", host: hosttest.ScratchOptions{OSRelease: "ID=arch\n"}, resource: hostcfg.Packages{Names: []string{"podman"}}, want: "no way is known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := hosttest.NewScratch(t, c.host)
			if c.before != "" {
				s.Sh(t, c.before)
			}
			_, err := hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{c.resource})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "on scratch") {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if hint.Of(err) == "" && !strings.Contains(c.name, "used up") && !strings.Contains(c.name, "huge") {
				t.Errorf("no hint in %v", err)
			}
		})
	}
}

func TestMaskedUnitIsRefused(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{Systemd: true})
	s.Play(t, "systemctl", `[ "$1" != --version ] || { echo systemd 252; exit; }
printf 'Id=a.service\nLoadState=masked\nActiveState=inactive\nUnitFileState=masked\n'`)
	_, err := hostcfg.MakePlan(t.Context(), s, []hostcfg.Resource{hostcfg.SystemUnit{Name: "a.service", Enable: hostcfg.On}})
	if err == nil || !strings.Contains(err.Error(), "unit a.service is masked") || !strings.Contains(hint.Of(err), "systemctl unmask") {
		t.Error(err)
	}
}

// TestSensitiveContentStaysOut looks for a secret, and for what gives it away,
// in everything that a plan prints.
func TestSensitiveContentStaysOut(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	s.Write(t, "/etc/key", "old-hunter2", 0o600)
	p := mustPlan(t, s, hostcfg.File{Path: "/etc/key", Content: "hunter2", Mode: 0o400, Sensitive: true})
	js, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var text, logged bytes.Buffer
	if err := p.WriteText(&text, hostcfg.TextOptions{}); err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewTextHandler(&logged, nil)).Info("plan", "plan", p, "step", p.Steps[0])
	out, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	if err != nil {
		t.Fatal(err)
	}
	// Printing a pointer inside a struct prints an address, so take all apart.
	everything := string(js) + text.String() + logged.String() + fmt.Sprintf("%+v %#v %+v", *p.Steps[0], *p.Steps[0], out)
	for _, secret := range []string{"hunter2", "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7"} {
		if strings.Contains(everything, secret) {
			t.Errorf("%q in %s", secret, everything)
		}
	}
	if got := s.Sh(t, "cat /etc/key"); got != "hunter2" {
		t.Errorf("content %q", got)
	}
}

// TestChangedWhileApplying changes the host after Apply has looked, from
// inside an earlier step: the guard in the step's own script stops it.
func TestChangedWhileApplying(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	s.Write(t, "/etc/b", "old\n", 0o644)
	p := mustPlan(t, s, hostcfg.File{Path: "/etc/a", Content: "a"}, hostcfg.File{Path: "/etc/b", Content: "new\n"}, hostcfg.File{Path: "/etc/c", Content: "c"})
	var events []string
	out, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{OnStep: func(e hostcfg.StepEvent) {
		events = append(events, fmt.Sprintf("%d/%d %s %v %v", e.Index+1, e.Total, e.Step.ID, e.Done, e.Err != nil))
		if e.Done && e.Step.ID == "file:/etc/a" {
			s.Write(t, "/etc/b", "theirs\n", 0o644)
		}
	}})
	if !errors.Is(err, hostcfg.ErrHostChanged) || !strings.Contains(err.Error(), "/etc/b") || hint.Of(err) == "" {
		t.Errorf("error %v", err)
	}
	want := "1/3 file:/etc/a false false, 1/3 file:/etc/a true false, 2/3 file:/etc/b false false, 2/3 file:/etc/b true true"
	if got := strings.Join(events, ", "); got != want {
		t.Errorf("events %s", got)
	}
	if out.Changed != 1 || len(out.Steps) != 2 || out.Steps[1].Error == "" || out.Steps[1].Changed {
		t.Errorf("outcome %+v", out)
	}
	if got := s.Sh(t, "cat /etc/b; ls -A /etc | grep fleetctl || :; [ ! -e /etc/c ]"); got != "theirs\n" {
		t.Errorf("host has %q", got)
	}
}

func TestAnotherMachineIsRefused(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	p := mustPlan(t, s, hostcfg.File{Path: "/etc/a", Content: "a"})
	s.Write(t, "/etc/machine-id", "fedcba9876543210fedcba9876543210\n", 0o444)
	if _, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{}); !errors.Is(err, hostcfg.ErrHostChanged) || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("error %v", err)
	}
}

func TestSourceThatChangesAfterPlanning(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	source := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(source, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := mustPlan(t, s, hostcfg.File{Path: "/etc/agent", Source: source})
	if err := os.WriteFile(source, []byte("two"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{}); err == nil {
		t.Error("another file than the planned one was sent")
	}
	if err := os.Remove(source); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("source is gone: %v", err)
	}
	if got := s.Sh(t, "ls -A /etc | grep agent || :"); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

func TestReadOnlyRefuses(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	p := mustPlan(t, hosttest.ReadOnly(s), hostcfg.File{Path: "/etc/a", Content: "a\x00"})
	before := s.Tree(t)
	if _, err := p.Apply(t.Context(), hosttest.ReadOnly(s), hostcfg.ApplyOptions{}); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("run: %v", err)
	}
	if err := hosttest.ReadOnly(s).Put(t.Context(), hostcfg.Upload{Path: "/etc/a", Content: strings.NewReader("a")}); err == nil {
		t.Error("put was not refused")
	}
	if d := hosttest.Differ(before, s.Tree(t)); len(d) > 0 {
		t.Errorf("touched %v", d)
	}
}

func TestWhenDoesNotHold(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	isPi := func(f *hostcfg.Facts) bool { return f.IsRaspberryPi() }
	p := mustPlan(t, s,
		hostcfg.When(isPi, hostcfg.KernelArg{Arg: "cgroup_enable=memory"}),
		hostcfg.When(func(f *hostcfg.Facts) bool { return f.GoArch() != "" }, hostcfg.File{Path: "/etc/a"}))
	if p.Step("kernel-arg:cgroup_enable=memory").Changed() || !p.Step("file:/etc/a").Changed() || p.Step("file:/etc/b") != nil {
		t.Errorf("plan %+v", p.Steps)
	}
}

// TestOneRoundTrip counts: facts and all state in one script, and nothing
// more when there is nothing to do.
func TestOneRoundTrip(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{Systemd: true})
	p := mustPlan(t, s, hostcfg.User{Name: "pi"}, hostcfg.Group{Name: "adm"}, hostcfg.Block{Path: "/etc/hosts", Name: "x"},
		hostcfg.SystemUnit{Name: "a.service", Run: hostcfg.Off}, hostcfg.Absent{Path: "/etc/never"})
	if _, err := p.Apply(t.Context(), s, hostcfg.ApplyOptions{}); err != nil || p.Changed() {
		t.Fatal(err, p.Changed())
	}
	if s.Runs() != 1 {
		t.Errorf("%d scripts ran", s.Runs())
	}
}

func TestPlanText(t *testing.T) {
	s := hosttest.NewScratch(t, hosttest.ScratchOptions{})
	s.Sh(t, "printf 'a\\033[31m\\nold\\n' >/etc/conf")
	p := mustPlan(t, s, hostcfg.File{Path: "/etc/conf", Content: "a\nnew\n"}, hostcfg.Absent{Path: "/etc/never"})
	var plain, colored bytes.Buffer
	if err := p.WriteText(&plain, hostcfg.TextOptions{Unchanged: true}); err != nil {
		t.Fatal(err)
	}
	want := `~ file:/etc/conf
    change the content of /etc/conf
    --- a/etc/conf
    +++ b/etc/conf
    @@ -1,2 +1,2 @@
    -a�[31m
    -old
    +a
    +new
  absent:/etc/never
scratch: 1 to change, 1 as wanted
`
	if plain.String() != want {
		t.Errorf("got\n%s", plain.String())
	}
	if err := p.WriteText(&colored, hostcfg.TextOptions{Color: true}); err != nil {
		t.Fatal(err)
	}
	if got := colored.String(); !strings.Contains(got, "\x1b[32m    +new\x1b[0m") || strings.Contains(got, "never") {
		t.Errorf("colored %q", got)
	}
}
