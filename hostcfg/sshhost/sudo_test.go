package sshhost_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
	"github.com/nationtech/fleetctl/internal/hint"
)

// fakeSudo asks with a prompt of its own, as a PAM module may, and in a
// language that nothing here knows. The real one is tried on real hosts.
const fakeSudo = `#!/bin/sh
if [ "$1" = -n ]; then echo "sudo: a password is required" >&2; exit 1; fi
shift 4 # -S -k -p PROMPT
for try in 1 2 3; do
  printf 'Geheimnis von %s: ' "$USER" >&2
  IFS= read -r p || exit 1
  if [ "$p" = 'right one' ]; then exec "$@"; fi
  printf '\nNochmal.\n' >&2
done
exit 1
`

// newSudoRig is a server whose login is not root as far as the bootstrap can
// tell, and has a sudo that wants a password.
func newSudoRig(t *testing.T, answers ...string) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the fake sudo makes nobody root: run as root")
	}
	bin := t.TempDir()
	for name, text := range map[string]string{"sudo": fakeSudo, "id": "#!/bin/sh\necho 1000\n"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, sshtest.Config{Env: []string{"PATH=" + bin + ":/usr/bin:/bin", "USER=tester"}})
	r.asker.answers = map[sshhost.QuestionKind][]string{sshhost.SudoPassword: answers}
	return r
}

func TestSudoWithAForeignPrompt(t *testing.T) {
	r := newSudoRig(t, "right one")
	h := r.dial(t)
	if how := h.Elevation(); how != "" {
		t.Errorf("%q before the first script", how)
	}
	if out := run(t, h, "id -u"); string(out.Stdout) != "0\n" {
		t.Errorf("got %q", out.Stdout)
	}
	if how := h.Elevation(); how != "sudo with password" {
		t.Errorf("elevation %q", how)
	}
	if s, err := h.SystemBus(t.Context()); err == nil || !strings.Contains(err.Error(), "once a run") {
		t.Errorf("sudo was given the password for a second session: %v, %v", s, err)
	}
	r.Cut()
	if _, err := h.Run(t.Context(), hostcfg.Command{Script: "true"}); err == nil {
		t.Error("the connection survived")
	}
	if err := h.Reconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, h, "true")
	if len(r.asker.asked) != 1 {
		t.Errorf("asked %+v", r.asker.asked)
	}
}

func TestWrongSudoPasswordFailsSoon(t *testing.T) {
	r := newSudoRig(t, "wrong one", "never asked for")
	start := time.Now()
	_, err := r.dial(t).Run(t.Context(), hostcfg.Command{Script: "true"})
	if hint.Code(err) != hint.CodeAuth || !strings.Contains(err.Error(), "wrong password") || hint.Of(err) == "" {
		t.Errorf("code %d: %v", hint.Code(err), err)
	}
	if strings.Contains(err.Error(), "wrong one") {
		t.Errorf("the error has the password in it: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(r.asker.asked) != 1 {
		t.Errorf("asked %+v", r.asker.asked)
	}
}

func TestSudoPasswordOfTwoLinesIsRefused(t *testing.T) {
	_, err := newSudoRig(t, "right one\nrm -rf /").dial(t).Run(t.Context(), hostcfg.Command{Script: "true"})
	if hint.Code(err) != hint.CodeAuth || !strings.Contains(err.Error(), "line break") {
		t.Errorf("code %d: %v", hint.Code(err), err)
	}
}
