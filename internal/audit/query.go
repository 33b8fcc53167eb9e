package audit

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Filter says which records are wanted; what is empty matches all.
type Filter struct {
	Since  time.Time
	Device string
	Who    string // name or subject
	Limit  int    // the newest so many; 0 for all
}

// Result is what Query finds.
type Result struct {
	Records []Record `json:"records"` // the oldest first
	Intact  bool     `json:"intact"`
	// Damage says what is wrong with the whole log, filter or not.
	Damage []string `json:"damage,omitempty"`
	// Last and Hash are the newest record's.
	Last uint64 `json:"last"`
	Hash string `json:"hash"`
}

const maxDamage = 20 // a log that is all wrong is described well enough

// Query reads the log and checks the whole of it.
func (l *Log) Query(f Filter) (Result, error) {
	l.syncing.Lock() // the note of the last record is whole
	defer l.syncing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	noted, err := readHead(l.head)
	if err != nil {
		return Result{}, fmt.Errorf("query audit log: %w", err)
	}
	result := Result{Records: []Record{}}
	check := chain{damage: &result.Damage}
	file, err := os.Open(l.path) // what is there now, not what was there when we started
	if err != nil {
		return Result{}, fmt.Errorf("query audit log: %w", err)
	}
	defer file.Close()
	if _, err := lines(file, func(line []byte) {
		if r, ok := check.next(line); ok && f.matches(r) {
			result.Records = append(result.Records, r)
			if f.Limit > 0 && len(result.Records) > f.Limit {
				result.Records = result.Records[1:]
			}
		}
	}); err != nil {
		return Result{}, fmt.Errorf("query audit log: %w", err)
	}
	if check.last.Sequence < noted.Sequence {
		check.note("records %d to %d are missing at the end", check.last.Sequence+1, noted.Sequence)
	}
	result.Intact, result.Last, result.Hash = len(result.Damage) == 0, check.last.Sequence, check.last.Hash
	return result, nil
}

func (f Filter) matches(r Record) bool {
	return !r.At.Before(f.Since) && (f.Device == "" || f.Device == r.Device) && (f.Who == "" || f.Who == r.Who || f.Who == r.Subject)
}

// chain checks records one after the other.
type chain struct {
	last   Record
	line   int
	damage *[]string
}

func (c *chain) next(line []byte) (Record, bool) {
	c.line++
	var r Record
	if json.Unmarshal(line, &r) != nil {
		c.note("line %d is no record", c.line)
		return r, false
	}
	if sum, err := r.sum(); err != nil || sum != r.Hash {
		c.note("record %d was changed", r.Sequence)
	}
	if r.Sequence != c.last.Sequence+1 || r.Previous != c.last.Hash {
		c.note("record %d does not follow record %d", r.Sequence, c.last.Sequence)
	}
	c.last = r
	return r, true
}

func (c *chain) note(format string, args ...any) {
	if len(*c.damage) < maxDamage {
		*c.damage = append(*c.damage, fmt.Sprintf(format, args...))
	}
}
