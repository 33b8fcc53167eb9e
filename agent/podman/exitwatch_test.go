package podman

import (
	"context"
	"errors"
	"os/exec"
	"testing"
	"time"
)

func TestAwaitExit(t *testing.T) {
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := awaitExit(ctx, pid); err == nil || errors.Is(err, errExited) {
		t.Errorf("while it runs, until cancelled: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- awaitExit(t.Context(), pid) }()
	_ = in.Close()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, errExited) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the end was not noticed")
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := awaitExit(t.Context(), pid); !errors.Is(err, errExited) {
		t.Errorf("after it was reaped: %v", err)
	}
}
