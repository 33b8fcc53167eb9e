package cli

import (
	"os"
	"testing"
	"time"
)

func TestProcessUse(t *testing.T) {
	before := processUse(os.Getpid())
	for began := time.Now(); processUse(os.Getpid()).CPU == before.CPU; {
		if time.Since(began) > 10*time.Second {
			t.Fatal("working takes no processor time")
		}
	}
	if before.Resident < 1<<20 || before.Resident > 1<<40 {
		t.Errorf("%d bytes are resident", before.Resident)
	}
	if use := processUse(1 << 30); use.Resident != 0 || use.CPU != 0 {
		t.Errorf("a process that is not there: %+v", use)
	}
}
