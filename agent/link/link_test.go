package link

import (
	"testing"
	"time"
)

func TestReconnectDelay(t *testing.T) {
	for attempts, most := range map[int]time.Duration{0: firstRetry, 1: firstRetry, 2: 2 * firstRetry, 5: 16 * firstRetry, 7: lastRetry, 1000: lastRetry, 1 << 40: lastRetry} {
		seen := map[time.Duration]bool{}
		for range 50 {
			d := reconnectDelay(attempts)
			if d < most/2 || d > most {
				t.Errorf("attempt %d: %s is not between %s and %s", attempts, d, most/2, most)
			}
			seen[d] = true
		}
		if len(seen) < 10 {
			t.Errorf("attempt %d: no jitter", attempts)
		}
	}
}
