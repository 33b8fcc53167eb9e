package hostcfg

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// unitWish is what SystemUnit and UserUnit have in common.
type unitWish struct {
	unitTarget
	content   string
	enable    Switch
	run       Switch
	restartOn []string
	absent    bool
}

var unitTypes = []string{"service", "socket", "timer", "path", "target", "mount", "automount", "slice", "device", "swap", "scope"}

func (w unitWish) check() error {
	faults := []error{checkWord("unit", w.unit, "@-_.:")}
	if suffix := w.unit[strings.LastIndexByte(w.unit, '.')+1:]; !slices.Contains(unitTypes, suffix) {
		faults = append(faults, fmt.Errorf("unit %q has no suffix of systemd's, such as .service", w.unit))
	}
	if w.content != "" {
		faults = append(faults, CheckUnitFile(w.content))
	}
	if w.absent && (w.content != "" || w.enable == On || w.run == On) {
		faults = append(faults, errors.New("is absent, yet has content or should be enabled or running"))
	}
	return errors.Join(faults...)
}

// claims is the unit's file; a package's unit may run for several users.
func (w unitWish) claims() []claim {
	if w.content == "" && !w.absent {
		return nil
	}
	return []claim{{path: w.file()}}
}

func (w unitWish) probe(q *query) {
	k := w.key()
	q.add(k.kind, k.name)
	q.add(keyPending, w.pendingName())
	switch {
	case w.content != "":
		q.file(w.file(), hashOf([]byte(w.content)))
	case w.absent:
		q.file(w.file(), "")
	}
}

// plan compares the unit's properties, nil when its manager does not run,
// with what is wanted.
func (w unitWish) plan(cur property, s *state, st *Step) error {
	if w.absent {
		w.planAbsent(cur, s, st)
		return nil
	}
	if err := needSystemd(s.facts); err != nil {
		return err
	}
	if cur["LoadState"] == "masked" {
		return hint.New(fmt.Sprintf("unit %s is masked", w.unit), "on the host: systemctl unmask "+w.unit)
	}
	written := false
	if w.content != "" {
		content := []byte(w.content)
		fw := fileWrite{path: w.file(), owner: "root", group: "root", mode: 0o644,
			content: content, size: int64(len(content)), sha256: hashOf(content)}
		var err error
		if written, err = fw.plan(s, st); err != nil {
			return err
		}
	} else if cur["LoadState"] == "not-found" && (w.enable == On || w.run == On) && !s.packagesChange() {
		return hint.New(fmt.Sprintf("unit %s does not exist", w.unit), "declare the package that brings it, or give its content")
	}
	op := &unitOp{target: w.unitTarget, reload: written || cur["NeedDaemonReload"] == "yes"}
	if op.reload && !written {
		st.change("let systemd read the changed files of %s", w.unit)
	}
	w.planEnable(cur, written || s.pending[w.pendingName()], op, st)
	w.planRun(cur, written, s, op, st)
	if op.reload || op.enable != "" || op.job != "" {
		st.ops = append(st.ops, op)
	}
	return nil
}

func (w unitWish) planEnable(cur property, rewritten bool, op *unitOp, st *Step) {
	// What cannot be enabled (static: no [Install] section) is as wanted.
	fine := slices.Contains([]string{"enabled", "static", "alias", "indirect", "generated"}, cur["UnitFileState"])
	switch {
	case w.enable == On && !fine:
		st.change("enable %s", w.unit)
		op.enable = "enable"
	case w.enable == On && rewritten && cur["UnitFileState"] == "enabled":
		op.enable = "reenable" // its [Install] section may have changed
	case w.enable == Off && cur["UnitFileState"] == "enabled":
		st.change("disable %s", w.unit)
		op.enable = "disable"
	}
}

func (w unitWish) planRun(cur property, written bool, s *state, op *unitOp, st *Step) {
	var because []string
	if written {
		because = append(because, "its file changes")
	}
	for _, id := range w.restartOn {
		if s.changed[id] {
			because = append(because, id+" changes")
		}
	}
	if len(because) == 0 && s.pending[w.pendingName()] {
		because = append(because, "an interrupted run changed what it depends on")
	}
	switch {
	case w.run == Off && isActive(cur):
		st.change("stop %s", w.unit)
		op.job = "stop"
	case w.run == On && !isActive(cur):
		st.change("start %s", w.unit)
		op.job = "start"
	case w.run != Off && isActive(cur) && len(because) > 0:
		st.change("restart %s, because %s", w.unit, strings.Join(because, " and "))
		op.job = "restart"
		st.restarts = w.pendingName()
	}
}

func (w unitWish) planAbsent(cur property, s *state, st *Step) {
	file := s.paths[w.file()]
	if isActive(cur) {
		st.change("stop %s", w.unit)
	}
	if cur["UnitFileState"] == "enabled" {
		st.change("disable %s", w.unit)
	}
	if file != nil {
		st.change("remove %s", w.file())
		st.addDiff(unifiedDiff(w.file(), append([]byte{}, file.content...), nil))
	}
	if s.paths[TempPath(w.file())] != nil {
		st.change("remove %s, left behind by an interrupted run", TempPath(w.file()))
	}
	if !st.Changed() {
		return
	}
	script := guard(w.file(), file)
	loaded := cur != nil && cur["LoadState"] != "not-found"
	if cur != nil {
		script += w.systemctl()
	}
	if loaded {
		script += fmt.Sprintf("sc -q disable --now -- %s\n", quote(w.unit))
	}
	script += fmt.Sprintf("rm -f -- %s %s \"$pending\"/%s\n", quote(w.file()), quote(TempPath(w.file())), quote(w.pendingName()))
	if cur != nil {
		script += fmt.Sprintf("sc daemon-reload\nsc reset-failed -- %s 2>/dev/null || :\n", quote(w.unit))
	}
	st.runFor(script, jobTimeout)
}

// isActive counts a unit that systemd is about to start, or start again, as
// active, so that a service that crashes now and then does not come and go.
func isActive(u property) bool {
	return slices.Contains([]string{"active", "activating", "reloading"}, u["ActiveState"])
}

// packagesChange says whether the plan installs packages before this step: a
// unit that is not there yet can then come with them.
func (s *state) packagesChange() bool {
	for id := range s.changed {
		if strings.HasPrefix(id, "packages:") {
			return true
		}
	}
	return false
}
