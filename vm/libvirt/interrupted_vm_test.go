//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// childMark holds a spec: the process creates that machine and ends.
const childMark = "FLEETCTL_TEST_CREATE"

func childCreate() int {
	var c struct {
		Spec  vm.Spec
		Cache string
	}
	if err := json.Unmarshal([]byte(os.Getenv(childMark)), &c); err != nil {
		fmt.Println(err)
		return 1
	}
	c.Spec.FirstBoot.HostKeyPrivate, c.Spec.FirstBoot.PasswordHash = "", "" // they do not travel
	h, err := libvirt.Open(context.Background(), libvirt.Config{CacheDir: c.Cache, Firmware: firmware.NewFinder(""), Log: slog.Default()})
	if err == nil {
		_, err = h.Create(context.Background(), c.Spec)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// killCycles is a sample; `make soak` runs more.
const killCycles = 6

func TestKilledCreateConverges(t *testing.T) {
	leavesNothing(t)
	h := open(t)
	s, _ := spec(t, "killed", builtImage(t, vm.X86_64), vm.X86_64)
	s.FirstBoot.HostKeyPrivate, s.FirstBoot.HostKeyPublic = "", ""
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for cycle := range killCycles {
		after := time.Duration(rand.IntN(1200)) * time.Millisecond
		data, err := json.Marshal(map[string]any{"Spec": s, "Cache": h.CacheDir})
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(self)
		child.Env = append(os.Environ(), childMark+"="+string(data))
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after) // the random moment of the kill is the point
		_ = child.Process.Kill()
		_ = child.Wait()
		if _, err := h.Create(t.Context(), s); err != nil {
			t.Fatalf("cycle %d, killed after %s: %v", cycle, after, err)
		}
		machine, err := h.Get(t.Context(), s.Name)
		if err != nil || machine.State != vm.Running {
			t.Fatalf("cycle %d, killed after %s: %+v, %v", cycle, after, machine, err)
		}
		if err := h.Delete(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilledCreateCanBeDeleted(t *testing.T) {
	leavesNothing(t)
	h := open(t)
	s, _ := spec(t, "cut-off", builtImage(t, vm.X86_64), vm.X86_64)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(400*time.Millisecond, cancel)
	if _, err := h.Create(ctx, s); err == nil {
		t.Log("it was faster than the interruption")
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	if err := h.Delete(t.Context(), s.Name); err != nil && !errors.Is(err, vm.ErrNotFound) {
		t.Error(err)
	}
}

func TestTwentyCreatesAtOnce(t *testing.T) {
	leavesNothing(t)
	h := open(t)
	image := builtImage(t, vm.X86_64)
	var group sync.WaitGroup
	for i := range 20 {
		s, _ := spec(t, fmt.Sprintf("many-%d", i), image, vm.X86_64)
		s.MemoryMiB, s.CPUs = 256, 1
		group.Go(func() {
			if _, err := h.Create(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	machines, err := h.List(t.Context())
	if err != nil || len(machines) != 20 {
		t.Errorf("%d machines, %v; want 20", len(machines), err)
	}
	for _, m := range machines {
		group.Go(func() {
			if err := h.Delete(t.Context(), m.Name); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
