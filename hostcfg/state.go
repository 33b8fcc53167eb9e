package hostcfg

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// state is what a query found. Resources that come later in a plan see in it
// what earlier ones are going to do, where that matters to them.
type state struct {
	facts    *Facts
	paths    map[string]*pathState // no entry: nothing is there
	trees    map[string][]string
	users    map[string]*userState
	groups   map[string]*groupState
	subUIDs  []subRange
	subGIDs  []subRange
	packages map[string]string              // family's name → installed version
	units    map[string]property            // unit → property → value
	userUnit map[string]map[string]property // login name → unit → properties; no entry: no manager runs
	linger   map[string]bool
	sysctls  map[string]string
	pending  map[string]bool
	changed  map[string]bool // IDs of resources that the plan changes
}

type property = map[string]string

// pathState is one directory entry, not followed when it is a link.
type pathState struct {
	typ    string // file, directory, link or other
	mode   fs.FileMode
	size   int64
	uid    int
	gid    int
	owner  string // login name, or UNKNOWN
	group  string
	sha256 string // files
	target string // links
	// content is what a file holds; fetched only when its query wanted it and
	// the file is not larger than maxFetch.
	content []byte
	fetched bool
}

type userState struct {
	name, comment, home, shell string
	uid, gid                   int
	groups                     []string
}

type groupState struct {
	name    string
	gid     int
	members []string
}

// look runs a query and reads what it found.
func look(ctx context.Context, h Host, q *query) (*state, error) {
	marker := newMarker()
	res, err := h.Run(ctx, Command{Script: q.compile(marker), ReadOnly: true, Timeout: 2 * time.Minute})
	if err != nil {
		return nil, err
	}
	sec, err := readSections(res.Stdout, marker)
	if err != nil {
		return nil, fmt.Errorf("%w; stderr: %q", err, tail(res.Stderr, 200))
	}
	s, err := parseState(sec)
	if err != nil {
		return nil, err
	}
	if e, ok := h.(Elevator); ok {
		s.facts.Sudo = e.Elevation()
	}
	return s, nil
}

func parseState(sec map[string]string) (*state, error) {
	s := &state{
		facts:    parseFacts(sec),
		paths:    map[string]*pathState{},
		trees:    map[string][]string{},
		users:    map[string]*userState{},
		groups:   map[string]*groupState{},
		packages: map[string]string{},
		units:    parseUnits(sec["units"]),
		userUnit: map[string]map[string]property{},
		linger:   map[string]bool{},
		sysctls:  map[string]string{},
		pending:  map[string]bool{},
		changed:  map[string]bool{},
	}
	if err := s.parsePaths(sec["stat"], sec["sha256"]); err != nil {
		return nil, err
	}
	for _, l := range lines(sec["passwd"]) {
		if u, err := parsePasswd(l); err == nil {
			s.users[u.name] = u
		}
	}
	for _, l := range lines(sec["group"]) {
		if g, err := parseGroup(l); err == nil {
			s.groups[g.name] = g
		}
	}
	s.subUIDs, s.subGIDs = parseSubIDs(sec["subuid"]), parseSubIDs(sec["subgid"])
	for _, l := range lines(sec["packages"]) {
		if name, version, ok := strings.Cut(l, " "); ok {
			s.packages[name] = version
		}
	}
	for head, body := range sec {
		kind, name, _ := strings.Cut(head, " ")
		switch kind {
		case "link":
			if p := s.paths[name]; p != nil {
				p.target = strings.TrimSuffix(body, "\n")
			}
		case "content":
			if p := s.paths[name]; p != nil {
				p.content, p.fetched = []byte(body), true
			}
		case "tree":
			s.trees[name] = lines(body)
		case "groups":
			if u := s.users[name]; u != nil {
				u.groups = strings.Fields(body)
			}
		case "linger":
			s.linger[name] = true
		case "user-units":
			s.userUnit[name] = parseUnits(body)
		case "sysctl":
			s.sysctls[name] = strings.Join(strings.Fields(body), " ")
		case "pending":
			s.pending[name] = true
		}
	}
	return s, nil
}

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// parsePaths reads stat's lines (mode in hex, size, uid, gid, owner, group,
// path) and sha256sum's (hash, two blanks, path).
func (s *state) parsePaths(stat, sums string) error {
	for _, l := range lines(stat) {
		f := strings.SplitN(l, " ", 7)
		if len(f) != 7 {
			return fmt.Errorf("stat printed %q", l)
		}
		mode, err := strconv.ParseUint(f[0], 16, 32)
		if err != nil {
			return fmt.Errorf("stat printed mode %q", f[0])
		}
		p := &pathState{mode: unixMode(mode), typ: fileType(mode), owner: f[4], group: f[5]}
		p.size, _ = strconv.ParseInt(f[1], 10, 64)
		p.uid, _ = strconv.Atoi(f[2])
		p.gid, _ = strconv.Atoi(f[3])
		s.paths[f[6]] = p
	}
	for _, l := range lines(sums) {
		hash, name, _ := strings.Cut(l, "  ")
		if p := s.paths[name]; p != nil {
			p.sha256 = hash
		}
	}
	return nil
}

// fileType decodes the S_IFMT bits of stat(2).
func fileType(mode uint64) string {
	switch mode & 0o170000 {
	case 0o100000:
		return "file"
	case 0o040000:
		return "directory"
	case 0o120000:
		return "link"
	}
	return "other"
}

// unixMode turns permission bits of stat(2) into Go's.
func unixMode(mode uint64) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}

// octal writes a mode as chmod takes it.
func octal(m fs.FileMode) string {
	n := uint32(m.Perm())
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&flag != 0 {
			n |= bit
		}
	}
	return fmt.Sprintf("%04o", n)
}

func (p *pathState) observed() string {
	if p == nil {
		return "absent"
	}
	o := fmt.Sprintf("%s %s %d:%d", p.typ, octal(p.mode), p.uid, p.gid)
	switch p.typ {
	case "file":
		o += " sha256:" + p.sha256
	case "link":
		o += " -> " + p.target
	}
	return o
}

// observed is the value of a key in one line, for a step's precondition.
func (s *state) observed(k key) string {
	switch k.kind {
	case keyPath:
		return s.paths[k.name].observed()
	case keyTree:
		return strings.Join(s.trees[k.name], " ")
	case keyPasswd:
		if u := s.users[k.name]; u != nil {
			return fmt.Sprintf("%d:%d:%s:%s:%s %s", u.uid, u.gid, u.comment, u.home, u.shell, strings.Join(u.groups, ","))
		}
		return "absent"
	case keyGroup:
		if g := s.groups[k.name]; g != nil {
			return fmt.Sprintf("%d:%s", g.gid, strings.Join(g.members, ","))
		}
		return "absent"
	case keySubIDs:
		return fmt.Sprint(s.subUIDs, s.subGIDs)
	case keyPackage:
		name := k.name
		if d := distroByFamily(s.facts.Family); d != nil {
			name = d.packageName(name)
		}
		if v := s.packages[name]; v != "" {
			return v
		}
		return "absent"
	case keyUnit:
		return unitObserved(s.units[k.name])
	case keyUserUnit:
		user, unit, _ := strings.Cut(k.name, "/")
		return unitObserved(s.userUnit[user][unit])
	case keyLinger:
		return strconv.FormatBool(s.linger[k.name])
	case keySysctl:
		return s.sysctls[k.name]
	case keyPending:
		return strconv.FormatBool(s.pending[k.name])
	}
	return ""
}

// unitObserved leaves out what changes by itself: a unit that crashes and is
// started again by systemd counts as active all the time.
func unitObserved(u property) string {
	if u == nil {
		return "no manager"
	}
	active := "inactive"
	if isActive(u) {
		active = "active"
	}
	return fmt.Sprintf("%s %s %s", u["LoadState"], orDash(u["UnitFileState"]), active)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// parseUnits reads systemctl show: blocks of name=value lines, one blank line
// between units. A unit is filed under its Id and all its aliases.
func parseUnits(text string) map[string]property {
	units := map[string]property{}
	for _, block := range strings.Split(text, "\n\n") {
		u := property{}
		for _, l := range lines(block) {
			if name, value, ok := strings.Cut(l, "="); ok {
				u[name] = value
			}
		}
		if u["Id"] == "" {
			continue
		}
		for _, n := range append(strings.Fields(u["Names"]), u["Id"]) {
			units[n] = u
		}
	}
	return units
}
