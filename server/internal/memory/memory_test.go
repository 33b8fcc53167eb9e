package memory

import "testing"

func TestLimitLeavesRoom(t *testing.T) {
	if got := limit(100<<20, 10<<20); got != Floor {
		t.Errorf("of a small process: %d", got)
	}
	const heap, stacks = 4 << 30, 1 << 30
	if got := limit(heap, stacks); got < (heap+stacks)*5/4 || got > (heap+stacks)*3/2 {
		t.Errorf("of a large one: %d", got)
	}
}
