package sshconfig

import (
	"errors"
	"strings"
)

const blanks = " \t\r\n\f\v"

var errQuote = errors.New("a quote is not closed")

// keyword takes the option's name off a line. One equals sign may stand
// between it and the rest.
func keyword(line string) (name, rest string) {
	line = strings.Trim(line, blanks)
	if strings.HasPrefix(line, `"`) {
		if end := strings.IndexByte(line[1:], '"'); end >= 0 {
			return line[1 : end+1], value(line[end+2:])
		}
	}
	end := strings.IndexAny(line, blanks+"=")
	if end < 0 {
		return line, ""
	}
	return line[:end], value(line[end:])
}

// value is what follows a name and perhaps an equals sign.
func value(s string) string {
	s = strings.TrimLeft(s, blanks)
	return strings.TrimLeft(strings.TrimPrefix(s, "="), blanks)
}

// words splits a line into words as argv_split of OpenSSH does: single and
// double quotes, a few backslash escapes, and a comment from a word that
// begins with a number sign.
func words(s string) ([]string, error) {
	var list []string
	for i := 0; ; {
		for i < len(s) && (s[i] == ' ' || s[i] == '\t') {
			i++
		}
		if i == len(s) || s[i] == '#' {
			return list, nil
		}
		word, n, err := firstWord(s[i:])
		if err != nil {
			return nil, err
		}
		list = append(list, word)
		i += n
	}
}

func firstWord(s string) (word string, n int, err error) {
	var b strings.Builder
	var quote byte
	for n = 0; n < len(s); n++ {
		switch c := s[n]; {
		case c == '\\' && n+1 < len(s) && (strings.IndexByte(`'"\`, s[n+1]) >= 0 || (quote == 0 && s[n+1] == ' ')):
			n++
			b.WriteByte(s[n])
		case quote == 0 && (c == ' ' || c == '\t'):
			return b.String(), n, nil
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		default:
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		return "", 0, errQuote
	}
	return b.String(), n, nil
}

// delimited takes the next word of a Match line: a double-quoted text, in
// which nothing is special, or up to a blank or an equals sign.
func delimited(s string) (word, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		end := strings.IndexByte(s[1:], '"')
		if end < 0 {
			return "", "", errQuote
		}
		return s[1 : end+1], value(s[end+2:]), nil
	}
	end := strings.IndexAny(s, blanks+"=")
	if end < 0 {
		return s, "", nil
	}
	return s[:end], value(s[end:]), nil
}
