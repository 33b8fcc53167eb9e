//go:build hosts

package testhost_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/testhost"
)

// holdEnv makes this test binary start a host, say so, and wait to be killed.
const holdEnv = "TESTHOST_HOLD"

func TestMain(m *testing.M) {
	if os.Getenv(holdEnv) != "" {
		hold()
	}
	os.Exit(m.Run())
}

func hold() {
	h, err := testhost.New(context.Background(), testhost.Options{})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(filepath.Base(filepath.Dir(h.Root())), h.IP())
	select {}
}

func TestCloseLeavesNothing(t *testing.T) {
	var slot string
	t.Run("host", func(t *testing.T) {
		h := testhost.Start(t, testhost.Options{})
		slot = filepath.Base(filepath.Dir(h.Root()))
		if len(traces(t, slot)) == 0 {
			t.Fatal("a running host leaves no trace that this test sees")
		}
	})
	if left := traces(t, slot); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKilledTestBinaryIsCollected(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	slot, _, _ := strings.Cut(line, " ")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
	if len(traces(t, slot)) == 0 {
		t.Fatal("nothing to collect")
	}
	t.Run("next", func(t *testing.T) { testhost.Start(t, testhost.Options{}) })
	if left := traces(t, slot); len(left) > 0 {
		t.Errorf("not collected: %v", left)
	}
}

// traces lists what there is of a host on this machine.
func traces(t *testing.T, slot string) (found []string) {
	t.Helper()
	dir, name := "/var/tmp/fleetctl-testhost/"+slot, "fleet-th"+slot
	for _, pattern := range []string{dir, "/run/netns/" + name, "/sys/class/net/" + name, "/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir+"/") || strings.Contains(line, "/run/netns/"+name+" ") {
			found = append(found, "mount "+line)
		}
	}
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range cmdlines {
		if data, err := os.ReadFile(path); err == nil && slices.ContainsFunc(strings.Split(string(data), "\x00"), func(arg string) bool {
			return strings.Contains(arg, dir+"/")
		}) {
			found = append(found, "process "+path)
		}
	}
	return found
}
