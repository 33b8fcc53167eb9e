package sshconfig

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration reads an option's time (TIME FORMATS of sshd_config(5)), such as
// 90, 1m30s or 2h. 0 is not set, "none" or 0.
func (v *Values) Duration(name string) (time.Duration, error) {
	s := v.Get(name)
	if s == "" || s == "none" {
		return 0, nil
	}
	d, err := parseTime(s)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

var units = map[byte]time.Duration{
	's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour,
}

func parseTime(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a time such as 90 or 1m30s", s)
	var sum time.Duration
	for rest := s; rest != ""; {
		end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		number, unit := rest, time.Second
		switch {
		case end == 0:
			return 0, bad
		case end > 0:
			number = rest[:end]
			u, ok := units[rest[end]|0x20]
			if !ok {
				return 0, bad
			}
			unit, rest = u, rest[end+1:]
		default:
			rest = ""
		}
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || time.Duration(n) > (1<<62)/unit {
			return 0, bad
		}
		sum += time.Duration(n) * unit
	}
	return sum, nil
}
