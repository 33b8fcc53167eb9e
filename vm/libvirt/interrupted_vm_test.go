//go:build vm && cgo && libvirt_dlopen

package libvirt_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/firmware"
	"github.com/nationtech/fleetctl/internal/testhost/sandbox"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

// A sample of cycles runs with the other tests; `make soak` runs more, and a
// failed run's seed plays the same cycles again.
var (
	soakCycles = flag.Int("soak.cycles", 3, "number of times that a machine is made and deleted, each killed at a random moment")
	soakSeed   = flag.Uint64("soak.seed", uint64(time.Now().UnixNano()), "what the random moments are drawn from")
)

// childMark holds a childTask: the process does it and ends.
const childMark = "FLEETCTL_TEST_CHILD"

type childTask struct {
	Delete bool // instead of making it
	Spec   vm.Spec
	Cache  string
}

func childWork() int {
	var task childTask
	err := json.Unmarshal([]byte(os.Getenv(childMark)), &task)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	task.Spec.FirstBoot.HostKeyPrivate, task.Spec.FirstBoot.PasswordHash = "", "" // they do not travel
	h, err := libvirt.Open(context.Background(), libvirt.Config{CacheDir: task.Cache, Firmware: firmware.NewFinder(""), Log: slog.Default()})
	switch {
	case err != nil:
	case task.Delete:
		err = h.Delete(context.Background(), task.Spec.Name)
	default:
		_, err = h.Create(context.Background(), task.Spec)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// killed runs a task in a process of its own that dies after a while.
func killed(t *testing.T, task childTask, after time.Duration) {
	t.Helper()
	data, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
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
}

// TestKilledCyclesConverge: whenever create and delete are cut off, the next
// one does the rest.
func TestKilledCyclesConverge(t *testing.T) {
	sandbox.LeavesNothing(t)
	before := sandbox.Inventory(t)
	h := open(t)
	s, _ := spec(t, "killed", builtImage(t, vm.X86_64), vm.X86_64)
	s.FirstBoot.HostKeyPrivate, s.FirstBoot.HostKeyPublic = "", ""
	s.MemoryMiB, s.CPUs = 256, 1
	t.Logf("again with: make soak SEED=%d CYCLES=%d", *soakSeed, *soakCycles)
	random := rand.New(rand.NewPCG(*soakSeed, 0))
	for cycle := range *soakCycles {
		s.Firmware = []vm.Firmware{vm.FirmwareBIOS, vm.FirmwareUEFI}[random.IntN(2)]
		create, remove := time.Duration(random.IntN(1500))*time.Millisecond, time.Duration(random.IntN(600))*time.Millisecond
		t.Logf("cycle %d: %s, create killed after %s, delete after %s", cycle, s.Firmware, create, remove)
		killed(t, childTask{Spec: s, Cache: h.CacheDir}, create)
		if _, err := h.Create(t.Context(), s); err != nil {
			t.Fatalf("cycle %d: create: %v", cycle, err)
		}
		machine, err := h.Get(t.Context(), s.Name)
		if err != nil || machine.State != vm.Running {
			t.Fatalf("cycle %d: %+v, %v", cycle, machine, err)
		}
		killed(t, childTask{Delete: true, Spec: s, Cache: h.CacheDir}, remove)
		if err := h.Delete(t.Context(), s.Name); err != nil && !errors.Is(err, vm.ErrNotFound) {
			t.Fatalf("cycle %d: delete: %v", cycle, err)
		}
		if after := sandbox.Inventory(t); after != before {
			t.Fatalf("cycle %d: something stayed behind:\n--- before\n%s--- after\n%s", cycle, before, after)
		}
	}
}

func TestKilledCreateCanBeDeleted(t *testing.T) {
	sandbox.LeavesNothing(t)
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
	sandbox.LeavesNothing(t)
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
