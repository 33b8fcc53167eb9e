package hostcfg

import (
	"fmt"

	"github.com/nationtech/fleetctl/internal/hint"
)

// planSubIDs gives the user a range in /etc/subuid and /etc/subgid. The range
// is chosen here, so that the plan can show it; the script checks once more
// that nobody took it in between.
func (u User) planSubIDs(s *state, cur *userState, st *Step) error {
	files := []struct {
		path, flag string
		ranges     *[]subRange
	}{
		{"/etc/subuid", "--add-subuids", &s.subUIDs},
		{"/etc/subgid", "--add-subgids", &s.subGIDs},
	}
	isMine := func(r subRange) bool { return r.user == u.Name || cur != nil && r.user == fmt.Sprint(cur.uid) }
	for _, f := range files {
		var mine, others []subRange
		for _, r := range *f.ranges {
			if isMine(r) {
				mine = append(mine, r)
			} else {
				others = append(others, r)
			}
		}
		var total int64
		for _, m := range mine {
			total += m.count
			for _, o := range others {
				if m.overlaps(o) {
					return hint.New(fmt.Sprintf("%s: range %s of %s overlaps %s: containers of one could touch files of the other", f.path, m, u.Name, o),
						fmt.Sprintf("give one of them another range in %s, then, as that user: podman system migrate", f.path))
				}
			}
		}
		if total >= subIDCount {
			continue
		}
		r, err := freeSubRange(u.Name, *f.ranges)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		*f.ranges = append(*f.ranges, r)
		st.change("give %s the subordinate ids %d–%d in %s", u.Name, r.start, r.end()-1, f.path)
		st.run(needs("usermod") + fmt.Sprintf(`f=%s
[ -e "$f" ] || : >"$f"
while IFS=: read -r user start count; do
	[ -n "$count" ] || continue
	[ "$start" -ge %[3]d ] || [ $((start + count)) -le %[2]d ] || { printf '%%s: %%s took the range\n' "$f" "$user" >&2; exit %[4]d; }
done <"$f"
usermod %[5]s %[2]d-%[6]d -- %[7]s
`, quote(f.path), r.start, r.end(), exitChanged, f.flag, r.end()-1, quote(u.Name)))
	}
	return nil
}
