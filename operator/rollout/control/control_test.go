package control

import (
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
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

// To go back before a restart is to go back before what was restarted.
func TestUndoPassesOverRestarts(t *testing.T) {
	at := metav1.NewTime(time.Unix(1_800_000_000, 0))
	score := func(image string, restarted *metav1.Time) v1alpha1.Score {
		return v1alpha1.Score{Type: "PodmanV0", RestartedAt: restarted, Data: v1alpha1.ScoreData{Services: []v1alpha1.Service{{Name: "web", Image: image}}}}
	}
	history := apart([]Revision{
		{Number: 3, Score: score("v2", &at), Current: true}, {Number: 2, Score: score("v2", nil), Stable: true}, {Number: 1, Score: score("v1", nil)},
	})
	if got, err := choose(history, 0); err != nil || got.Number != 1 {
		t.Errorf("goes back to %d, %v", got.Number, err)
	}
	if _, err := choose(history, 2); !errors.Is(err, ErrCurrent) {
		t.Errorf("goes to what it restarted: %v", err)
	}
}
