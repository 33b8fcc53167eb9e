package hostcfg

import "strings"

// key names one thing that can be observed on a host.
type key struct{ kind, name string }

func (k key) String() string { return strings.TrimSpace(k.kind + " " + k.name) }

// The kinds of key. The name is a path, a login name, a unit, …
const (
	keyPath     = "path"      // type, mode, owner, SHA-256
	keyTree     = "tree"      // names of everything below a directory
	keyPasswd   = "user"      // passwd entry and supplementary groups
	keyGroup    = "group"     // group entry
	keySubIDs   = "subids"    // /etc/subuid and /etc/subgid; no name
	keyPackage  = "package"   // Debian's name
	keyUnit     = "unit"      // unit of the system manager
	keyUserUnit = "user-unit" // "user/unit"
	keyLinger   = "linger"    // login name
	keySysctl   = "sysctl"    // dotted name
	keyPending  = "pending"   // marker of an interrupted run
)

// query is what a set of resources must see. It is compiled into one script.
type query struct {
	keys    []key
	seen    map[key]bool
	secret  map[string]bool   // paths whose hash must not be shown
	content map[string]string // path → the SHA-256 whose content needs no fetching, or "" to fetch always
}

func newQuery() *query {
	return &query{seen: map[key]bool{}, content: map[string]string{}, secret: map[string]bool{}}
}

func (q *query) add(kind, name string) {
	k := key{kind, name}
	if !q.seen[k] {
		q.seen[k] = true
		q.keys = append(q.keys, k)
	}
}

// file asks for a path's state, for its content unless its SHA-256 is
// unless, and for a left-over temporary file beside it.
func (q *query) file(p, unless string) {
	q.add(keyPath, p)
	q.add(keyPath, TempPath(p))
	q.content[p] = unless
}

func (q *query) names(kind string) []string {
	var names []string
	for _, k := range q.keys {
		if k.kind == kind {
			names = append(names, k.name)
		}
	}
	return names
}
