package sshconfig

import (
	"errors"
	"fmt"
	"strings"
)

// match says whether all criteria of a Match line hold.
func (r *reader) match(line string) (bool, error) {
	result, n, mode := true, 0, ""
	for rest := value(line); rest != "" && rest[0] != '#'; n++ {
		var attribute, argument string
		var err error
		if attribute, rest, err = delimited(rest); err != nil {
			return false, err
		}
		attribute, negated := strings.CutPrefix(attribute, "!")
		attribute = strings.ToLower(attribute)
		switch attribute {
		case "all":
			if n > 1 || (n == 1 && mode == "") || (rest != "" && rest[0] != '#') {
				return false, errors.New("Match all stands alone, or after canonical or final")
			}
			result = result && !negated
			continue
		case "final", "canonical":
			if attribute == "final" {
				r.wantsFinal = true
			}
			mode = attribute
			result = result && r.final != negated
			continue
		}
		if rest == "" || rest[0] == '#' {
			return false, fmt.Errorf("Match %s has no value", attribute)
		}
		if argument, rest, err = delimited(rest); err != nil {
			return false, err
		}
		holds, err := r.criterion(attribute, argument, result)
		if err != nil {
			return false, err
		}
		result = result && holds != negated
	}
	if n == 0 {
		return false, errors.New("Match has no criteria")
	}
	return result, nil
}

// criterion tests one attribute. so is what came of those before it: a
// command is not run when the answer is known.
func (r *reader) criterion(attribute, argument string, so bool) (bool, error) {
	v := r.values
	current := *v
	if err := current.finish(r.host); err != nil {
		return false, err
	}
	switch attribute {
	case "host":
		return matchesHostname(current.Hostname, argument), nil
	case "originalhost":
		return matchesHostname(v.Host, argument), nil
	case "user":
		return matchesList(current.User, argument), nil
	case "localuser":
		return matchesList(v.local.User, argument), nil
	case "tagged":
		return matchesList(v.Get("tag"), argument), nil
	case "exec":
		if !so || v.local.Exec == nil {
			return false, nil
		}
		command, err := current.Tokens().Expand(argument)
		if err != nil {
			return false, fmt.Errorf("Match exec: %w", err)
		}
		return v.local.Exec(r.ctx, command), nil
	}
	if attribute == "localnetwork" {
		return false, errors.New("Match localnetwork is not supported: match by host, or use Match exec")
	}
	return false, fmt.Errorf("Match: unknown criterion %q", attribute)
}
