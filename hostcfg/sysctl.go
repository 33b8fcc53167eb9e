package hostcfg

import (
	"errors"
	"fmt"
	"strings"
)

// Sysctl is a kernel parameter, now and after the next boot.
type Sysctl struct {
	Key   string // dotted, such as net.ipv4.ip_unprivileged_port_start
	Value string
}

// ID is "sysctl:KEY".
func (c Sysctl) ID() string { return "sysctl:" + c.Key }

func (c Sysctl) file() string { return "/etc/sysctl.d/60-fleetctl-" + c.Key + ".conf" }

func (c Sysctl) claims() []claim { return []claim{{path: c.file()}} }

func (c Sysctl) prepare() (Resource, error) {
	err := checkWord("sysctl", c.Key, "._-")
	if strings.Contains(c.Key, "..") || strings.HasPrefix(c.Key, ".") {
		err = fmt.Errorf("sysctl %q is not a dotted name", c.Key)
	}
	var bad error
	if c.Value == "" || strings.ContainsAny(c.Value, "\n\x00") {
		bad = fmt.Errorf("value %q is empty or holds a line break", c.Value)
	}
	return c, errors.Join(err, bad)
}

// sysctlPath is the parameter's file below /proc/sys.
func sysctlPath(key string) string { return strings.ReplaceAll(key, ".", "/") }

func (c Sysctl) write() *fileWrite {
	content := []byte(fmt.Sprintf("%s = %s\n", c.Key, c.Value))
	return &fileWrite{path: c.file(), owner: "root", group: "root", mode: 0o644, content: content,
		size: int64(len(content)), sha256: hashOf(content)}
}

func (c Sysctl) probe(q *query) {
	q.add(keySysctl, c.Key)
	q.file(c.file(), c.write().sha256)
}

func (c Sysctl) plan(s *state, st *Step) error {
	now, known := s.sysctls[c.Key]
	if _, err := c.write().plan(s, st); err != nil {
		return err
	}
	if now == strings.Join(strings.Fields(c.Value), " ") {
		return nil
	}
	if known {
		st.change("set %s to %s (was %s)", c.Key, c.Value, now)
	} else {
		st.change("set %s to %s", c.Key, c.Value)
	}
	p := quote("/proc/sys/" + sysctlPath(c.Key))
	st.run(fmt.Sprintf("[ -e %[1]s ] || die 'this kernel has no '%[2]s\nprintf '%%s\\n' %[3]s >%[1]s\n", p, quote(c.Key), quote(c.Value)))
	return nil
}
