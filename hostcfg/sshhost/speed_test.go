package sshhost_test

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
	"golang.org/x/sync/errgroup"
)

// TestRoundTrips holds the cost of a session to what the protocol needs: one
// round trip to open a channel, one to become root, one for each script and
// each small file.
func TestRoundTrips(t *testing.T) {
	const rtt = 80 * time.Millisecond
	r := newRig(t, sshtest.Config{})
	p := sshtest.NewProxy(t, r.Addr, rtt)
	r.target = target(t, p.Addr)
	h := r.dial(t)
	spent := func(what string, atMost int, do func()) {
		t.Helper()
		before, start := p.RoundTrips(), time.Now()
		do()
		n, took := p.RoundTrips()-before, time.Since(start)
		t.Logf("%s: %d round trips, %s", what, n, took.Round(time.Millisecond))
		if n > atMost || took > time.Duration(atMost)*rtt+time.Second { // a second for a busy machine
			t.Errorf("%s: %d round trips in %s, want at most %d", what, n, took, atMost)
		}
	}
	path := r.dir + "/file"
	spent("first script", 3, func() { run(t, h, "uname -a") })
	spent("further script", 1, func() { run(t, h, "id; cat /etc/passwd") })
	spent("write a file", 1, func() {
		if err := h.Put(t.Context(), hostcfg.Upload{Path: path, Content: strings.NewReader("x"), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	})
	spent("read a file", 1, func() {
		if _, err := h.Get(t.Context(), path, 10); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHundredHosts runs four scripts on each of a hundred hosts at once.
func TestHundredHosts(t *testing.T) {
	const hosts, scripts = 100, 4
	r := newRig(t, sshtest.Config{})
	servers := make([]*sshtest.Server, hosts)
	for i := range servers {
		servers[i] = sshtest.NewServer(t, sshtest.Config{AuthorizedKeys: r.Authorized()})
	}
	debug.FreeOSMemory()
	start := time.Now()
	g, ctx := errgroup.WithContext(t.Context())
	for i, s := range servers {
		g.Go(func() error { return fourScripts(ctx, r, target(t, s.Addr), i, scripts) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hosts, %d scripts each: %s, %d MiB resident with the servers", hosts, scripts, time.Since(start).Round(time.Millisecond), residentMiB(t))
}

func fourScripts(ctx context.Context, r *rig, to sshhost.Target, i, scripts int) error {
	o := r.options
	o.KnownHosts = []string{fmt.Sprintf("%s/known-%d", r.dir, i)}
	h, err := sshhost.Dial(ctx, to, o)
	if err != nil {
		return err
	}
	defer h.Close()
	for n := range scripts {
		out, err := h.Run(ctx, hostcfg.Command{Script: "echo " + strconv.Itoa(n)})
		if err != nil {
			return err
		}
		if string(out.Stdout) != strconv.Itoa(n)+"\n" {
			return fmt.Errorf("script %d printed %q", n, out.Stdout)
		}
	}
	return nil
}

func residentMiB(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 20
}
