package assets

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// The two ways to write a list of digests: coreutils ("HEX  NAME", with * for
// binary mode) and BSD ("SHA256 (NAME) = HEX").
var (
	coreutilsLine = regexp.MustCompile(`^([0-9a-fA-F]+) [ *](.+)$`)
	bsdLine       = regexp.MustCompile(`^SHA(256|512) \((.+)\) = ([0-9a-fA-F]+)$`)
)

// findSum finds a file's digest in a list.
func findSum(list []byte, name string, kind DigestKind) (string, error) {
	lines := bufio.NewScanner(bytes.NewReader(list))
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		digest := ""
		if m := coreutilsLine.FindStringSubmatch(line); m != nil && strings.TrimPrefix(m[2], "./") == name {
			digest = m[1]
		} else if m := bsdLine.FindStringSubmatch(line); m != nil && m[2] == name && "sha"+m[1] == string(kind) {
			digest = m[3]
		}
		if len(digest) == kind.hexLength() {
			return strings.ToLower(digest), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read the publisher's list: %w", err)
	}
	return "", fmt.Errorf("the publisher's list has no %s of %s", kind, name)
}
