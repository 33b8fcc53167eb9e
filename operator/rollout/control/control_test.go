package control

import (
	"errors"
	"testing"
)

func TestChoose(t *testing.T) {
	history := []Revision{{Number: 5, Current: true}, {Number: 4}, {Number: 3, Stable: true}}
	for _, tc := range []struct {
		name    string
		history []Revision
		to      int64
		want    int64
		err     error
	}{
		{"the last good one", history, 0, 3, nil},
		{"the one before, when the present one is good", []Revision{{Number: 5, Current: true, Stable: true}, {Number: 4}}, 0, 4, nil},
		{"by number", history, 4, 4, nil},
		{"the present one", history, 5, 0, ErrCurrent},
		{"one that is not kept", history, 2, 0, ErrNoRevision},
		{"nothing before", history[:1], 0, 0, ErrNoRevision},
		{"nothing at all", nil, 0, 0, ErrNoRevision},
	} {
		got, err := choose(tc.history, tc.to)
		if !errors.Is(err, tc.err) || err == nil && got.Number != tc.want {
			t.Errorf("%s: %d, %v", tc.name, got.Number, err)
		}
	}
}
