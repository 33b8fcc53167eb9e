package hostcfg

import (
	"fmt"
	"strconv"
	"strings"
)

// parsePasswd reads a line of passwd(5).
func parsePasswd(line string) (*userState, error) {
	f := strings.Split(line, ":")
	if len(f) != 7 || f[0] == "" {
		return nil, fmt.Errorf("not a passwd line: %q", line)
	}
	uid, err := strconv.ParseUint(f[2], 10, 31)
	if err != nil {
		return nil, fmt.Errorf("uid in passwd line %q: %w", line, err)
	}
	gid, err := strconv.ParseUint(f[3], 10, 31)
	if err != nil {
		return nil, fmt.Errorf("gid in passwd line %q: %w", line, err)
	}
	return &userState{name: f[0], uid: int(uid), gid: int(gid), comment: f[4], home: f[5], shell: f[6]}, nil
}

// parseGroup reads a line of group(5).
func parseGroup(line string) (*groupState, error) {
	f := strings.Split(line, ":")
	if len(f) != 4 || f[0] == "" {
		return nil, fmt.Errorf("not a group line: %q", line)
	}
	gid, err := strconv.ParseUint(f[2], 10, 31)
	if err != nil {
		return nil, fmt.Errorf("gid in group line %q: %w", line, err)
	}
	g := &groupState{name: f[0], gid: int(gid)}
	for _, m := range strings.Split(f[3], ",") {
		if m != "" {
			g.members = append(g.members, m)
		}
	}
	return g, nil
}

// subRange is a line of subuid(5): count ids from start, for a user who is
// named by login name or decimal uid.
type subRange struct {
	user         string
	start, count int64
}

func (r subRange) end() int64 { return r.start + r.count } // first id after the range

func (r subRange) overlaps(o subRange) bool { return r.start < o.end() && o.start < r.end() }

func (r subRange) String() string { return fmt.Sprintf("%s:%d:%d", r.user, r.start, r.count) }

// parseSubIDs reads subuid(5) or subgid(5), skipping what is not a range.
func parseSubIDs(text string) []subRange {
	var ranges []subRange
	for _, l := range lines(text) {
		f := strings.Split(strings.TrimSpace(l), ":")
		if len(f) != 3 || f[0] == "" {
			continue
		}
		start, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err1 == nil && err2 == nil && count > 0 {
			ranges = append(ranges, subRange{f[0], int64(start), int64(count)})
		}
	}
	return ranges
}

// Subordinate ids as useradd(8) hands them out: login.defs' SUB_UID_MIN and
// SUB_UID_COUNT, and the end of the 32-bit range less the reserved top.
const (
	subIDMin   = 100_000
	subIDCount = 65_536
	subIDMax   = 4_294_901_760
)

// freeSubRange finds the lowest start, on the grid that useradd uses, whose
// range touches none of those taken.
func freeSubRange(user string, taken []subRange) (subRange, error) {
	r := subRange{user, subIDMin, subIDCount}
	for r.end() <= subIDMax {
		clash := false
		for _, t := range taken {
			if r.overlaps(t) {
				clash = true
				r.start = t.end()
				break
			}
		}
		if !clash {
			return r, nil
		}
	}
	return subRange{}, fmt.Errorf("no %d subordinate ids in a row are free", subIDCount)
}
