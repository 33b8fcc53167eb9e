package sshhost_test

import (
	"context"
	"fmt"
	"log/slog"
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
		if n > atMost || took > time.Duration(atMost)*rtt+5*time.Second { // five for a busy machine
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

// TestHundredHosts configures a hundred hosts at once with four resources
// each, and then looks again. Each server has a real shell behind it.
func TestHundredHosts(t *testing.T) {
	const hosts = 100
	r := newRig(t, sshtest.Config{})
	servers := make([]*sshtest.Server, hosts)
	for i := range servers {
		servers[i] = sshtest.NewServer(t, sshtest.Config{AuthorizedKeys: r.Authorized()})
	}
	for _, wanted := range []int{4, 0} {
		debug.FreeOSMemory()
		start := time.Now()
		g, ctx := errgroup.WithContext(t.Context())
		for i, s := range servers {
			g.Go(func() error { return fourResources(ctx, r, target(t, s.Addr), i, wanted) })
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%d hosts, 4 resources each, %d to change: %s, %d MiB resident with the servers", hosts, wanted, time.Since(start).Round(time.Millisecond), residentMiB(t))
	}
}

// fourResources connects, plans and applies, and insists on how much changed.
func fourResources(ctx context.Context, r *rig, to sshhost.Target, i, wanted int) error {
	o := r.options
	o.KnownHosts = []string{fmt.Sprintf("%s/known-%d", r.dir, i)}
	h, err := sshhost.Dial(ctx, to, o)
	if err != nil {
		return err
	}
	defer h.Close()
	dir, me := fmt.Sprintf("%s/host-%d", r.dir, i), strconv.Itoa(os.Getuid())
	plan, err := hostcfg.MakePlan(ctx, h, []hostcfg.Resource{
		hostcfg.Directory{Path: dir, Owner: me, Group: me},
		hostcfg.File{Path: dir + "/config", Content: strings.Repeat("a line of configuration\n", 40), Owner: me, Group: me},
		hostcfg.Symlink{Path: dir + "/current", Target: "config"},
		hostcfg.Block{Path: dir + "/hosts", Name: "fleet", Content: "192.0.2.1 fleet\n"},
	})
	if err != nil {
		return err
	}
	outcome, err := plan.Apply(ctx, h, hostcfg.ApplyOptions{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if outcome.Changed != wanted {
		return fmt.Errorf("host %d: %d steps changed something, want %d", i, outcome.Changed, wanted)
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
