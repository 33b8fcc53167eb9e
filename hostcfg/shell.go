package hostcfg

import (
	"fmt"
	"path"
	"strings"
)

// quote makes s one word of POSIX sh, whatever it holds but NUL.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return strings.Join(quoted, " ")
}

// checkPath refuses what would make scripts or their parsing ambiguous:
// relative or unclean paths, control characters, and the backslash, for which
// sha256sum changes its output format.
func checkPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("path is empty")
	case !path.IsAbs(p):
		return fmt.Errorf("path %q is not absolute", p)
	case path.Clean(p) != p:
		return fmt.Errorf("path %q is not clean; write %q", p, path.Clean(p))
	case p == "/":
		return fmt.Errorf("path / cannot be managed")
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return fmt.Errorf("path %q holds a control character or a backslash", p)
	}
	return nil
}

// checkWord refuses a name that is empty, starts like an option, or holds a
// character outside letters, digits and extra.
func checkWord(what, s, extra string) error {
	if s == "" {
		return fmt.Errorf("%s is empty", what)
	}
	if s[0] == '-' {
		return fmt.Errorf("%s %q starts with a dash", what, s)
	}
	for _, r := range s {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(extra, r) {
			continue
		}
		return fmt.Errorf("%s %q holds %q", what, s, r)
	}
	return nil
}

func checkAccount(what, s string) error {
	if err := checkWord(what, s, "_-."); err != nil {
		return err
	}
	if len(s) > 32 {
		return fmt.Errorf("%s %q is longer than 32 characters", what, s)
	}
	return nil
}
