package sshconfig

import "strings"

// matches says whether a text fits a pattern of literal characters, * and ?.
func matches(text, pattern string) bool {
	// Position in text and pattern to go back to: behind the last star.
	backText, backPattern := -1, -1
	t, p := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			p++
			backText, backPattern = t, p
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			t, p = t+1, p+1
		case backPattern >= 0:
			backText++
			t, p = backText, backPattern
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchesHostLine is for the patterns of a Host line: one must fit, and none
// that is negated.
func matchesHostLine(host string, patterns []string) bool {
	found := false
	for _, p := range patterns {
		negated := strings.HasPrefix(p, "!")
		if !matches(host, strings.TrimPrefix(p, "!")) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// matchesList is for a criterion of a Match line: patterns with commas
// between them.
func matchesList(text, list string) bool {
	return matchesHostLine(text, strings.Split(list, ","))
}

func matchesHostname(host, list string) bool {
	return matchesList(strings.ToLower(host), strings.ToLower(list))
}
