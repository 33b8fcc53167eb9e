package hostcfg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// unitTarget is a unit and the manager that it belongs to.
type unitTarget struct {
	unit string
	user string // "" is the system manager
}

func (t unitTarget) key() key {
	if t.user == "" {
		return key{keyUnit, t.unit}
	}
	return key{keyUserUnit, t.user + "/" + t.unit}
}

// file is where the administrator's version of the unit stands.
func (t unitTarget) file() string {
	if t.user == "" {
		return "/etc/systemd/system/" + t.unit
	}
	return "/etc/systemd/user/" + t.unit
}

func (t unitTarget) pendingName() string {
	if t.user == "" {
		return "system." + t.unit
	}
	return "user." + t.user + "." + t.unit
}

// systemctl defines the shell function sc, systemctl for the right manager.
func (t unitTarget) systemctl() string {
	if t.user == "" {
		return "sc() { systemctl \"$@\"; }\n"
	}
	return fmt.Sprintf(`uid=$(id -u -- %s)
n=0
until [ -S "/run/user/$uid/bus" ]; do
	n=$((n + 1))
	[ $n -le 300 ] || die 'the systemd of user '%s' does not run: enable lingering'
	sleep 0.1
done
sc() { %s systemctl --user "$@"; }
`, quote(t.user), quote(t.user), asUser(t.user))
}

// journal is the shell command that prints the unit's last lines.
func (t unitTarget) journal() string {
	if t.user == "" {
		return fmt.Sprintf("journalctl --no-pager -q -n 15 -o cat -u %s", quote(t.unit))
	}
	return fmt.Sprintf("journalctl --no-pager -q -n 15 -o cat _UID=\"$uid\" _SYSTEMD_USER_UNIT=%s", quote(t.unit))
}

// unitOp lets a manager read its files, enables or disables a unit, and runs
// one job on it, in this order.
type unitOp struct {
	target unitTarget
	reload bool
	enable string // enable, reenable, disable or ""
	job    string // start, restart, stop or ""
}

// jobTimeout bounds starting and stopping; systemd's own default is 90 s.
const jobTimeout = 5 * time.Minute

func (o *unitOp) apply(ctx context.Context, s *session) error {
	// A user's manager can be read through a bridge, but refuses changes.
	if o.target.user == "" {
		if m := s.manager(ctx); m != nil {
			return o.finish(ctx, s.host, o.overBus(ctx, m))
		}
	}
	return runScript(ctx, s.host, o.script(), jobTimeout)
}

// finish ends what was done over D-Bus: the marker goes, or a failed job's
// error gets the unit's last lines.
func (o *unitOp) finish(ctx context.Context, h Host, err error) error {
	if err == nil {
		return runScript(ctx, h, o.target.clearPending(), time.Minute)
	}
	if failed := (*jobError)(nil); errors.As(err, &failed) {
		res, runErr := h.Run(ctx, Command{Script: scriptHead + o.target.journal(), Timeout: time.Minute, ReadOnly: true})
		if runErr == nil {
			return fmt.Errorf("%w; last lines of %s:\n%s", err, o.target.unit, tail(res.Stdout, 2000))
		}
	}
	return err
}

func (t unitTarget) clearPending() string {
	return fmt.Sprintf("rm -f -- \"$pending\"/%s\n", quote(t.pendingName()))
}

// script does the operation with systemctl.
func (o *unitOp) script() string {
	t, unit := o.target, quote(o.target.unit)
	var b strings.Builder
	b.WriteString(t.systemctl())
	if o.reload {
		b.WriteString("sc daemon-reload\n")
	}
	if o.enable != "" {
		fmt.Fprintf(&b, "sc -q %s -- %s\n", o.enable, unit)
	}
	if o.job != "" {
		fmt.Fprintf(&b, "sc %s -- %s || { printf 'last lines of %%s:\\n' %s >&2; %s >&2; exit 1; }\n", o.job, unit, unit, t.journal())
	}
	b.WriteString(t.clearPending())
	return b.String()
}
