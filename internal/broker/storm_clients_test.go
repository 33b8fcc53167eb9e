package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent/link"
	"github.com/nationtech/fleetctl/internal/credential"
)

// stormAsk is what the process with the devices is told on its standard input,
// which it lives as long as.
type stormAsk struct {
	URL, CAPEM string
	Parallel   int
	Devices    []stormDevice
}

var stormPlay = flag.Bool("storm.play", false, "be the devices of TestConnectStorm, which starts this by itself")

// TestStormDevices is the process with the devices. It says each connect, with
// the time, on its standard output.
func TestStormDevices(t *testing.T) {
	if !*stormPlay {
		t.Skip("this is started by TestConnectStorm")
	}
	in := json.NewDecoder(os.Stdin)
	var ask stormAsk
	if err := in.Decode(&ask); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ask.CAPEM)) {
		t.Fatal("no CA")
	}
	var mu sync.Mutex
	devices := make(chan stormDevice)
	for range ask.Parallel {
		go func() {
			for d := range devices {
				// The first connect is tried before Open returns.
				_, err := link.Open(t.Context(), link.Config{
					Device: d.ID, URLs: []string{ask.URL}, Roots: roots, Source: stormToken(d.Token), Log: slog.New(slog.DiscardHandler),
					Connected: func() {
						now := time.Now().UnixNano()
						mu.Lock()
						defer mu.Unlock()
						fmt.Println(stormMark, d.ID, now)
					},
				})
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for _, d := range ask.Devices {
		devices <- d
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

const stormMark = "connected:"

type stormToken string

func (s stormToken) Credential(context.Context) (credential.Credential, error) {
	return credential.Credential{Token: credential.Secret(s), Expires: time.Now().Add(time.Hour)}, nil
}

// stormClients is that process, seen from the test.
type stormClients struct {
	end func()

	mu        sync.Mutex
	connected map[string]bool
	last      time.Time
}

func startStormClients(t *testing.T, ask []byte) *stormClients {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestStormDevices$", "-storm.play", "-test.timeout", "10m")
	in := must(cmd.StdinPipe())(t)
	out := must(cmd.StdoutPipe())(t)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &stormClients{connected: map[string]bool{}}
	ended := make(chan struct{})
	c.end = sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Process.Kill() // its connections need no farewell
		<-ended
		_ = cmd.Wait()
	})
	t.Cleanup(c.end)
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var id string
			var at int64
			if _, err := fmt.Sscanf(lines.Text(), stormMark+" %s %d", &id, &at); err == nil {
				c.note(id, time.Unix(0, at))
			}
		}
	}()
	must(in.Write(ask))(t)
	return c
}

func (c *stormClients) note(id string, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.connected[id] {
		c.connected[id], c.last = true, at
	}
}

// reset makes await wait for connects that are yet to come.
func (c *stormClients) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.connected)
}

// await gives when the last of n devices had connected.
func (c *stormClients) await(t *testing.T, n int, within time.Duration) time.Time {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		c.mu.Lock()
		there, last := len(c.connected), c.last
		c.mu.Unlock()
		switch {
		case there >= n:
			return last
		case time.Now().After(deadline):
			t.Fatalf("%d of %d devices connected within %s", there, n, within)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stopwatch times decisions on the connection of the callout.
type stopwatch struct {
	mu    sync.Mutex
	asked map[string]time.Time // by the subject of the answer
	took  []time.Duration
}

var (
	asking    = regexp.MustCompile(`\$SYS\.REQ\.USER\.AUTH \d+ (\S+) `)
	answering = regexp.MustCompile(`(?:^|\r\n)PUB (\S+) `)
)

func (w *stopwatch) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked, w.took = map[string]time.Time{}, nil
}

func (w *stopwatch) watch(conn net.Conn) net.Conn {
	w.reset()
	return &watched{conn, w}
}

type watched struct {
	net.Conn
	watch *stopwatch
}

func (c *watched) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	now := time.Now()
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	for _, m := range asking.FindAllSubmatch(p[:n], -1) {
		c.watch.asked[string(m[1])] = now
	}
	return n, err
}

func (c *watched) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	now := time.Now()
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	for _, m := range answering.FindAllSubmatch(bytes.Clone(p[:n]), -1) {
		if at, ok := c.watch.asked[string(m[1])]; ok {
			c.watch.took = append(c.watch.took, now.Sub(at))
			delete(c.watch.asked, string(m[1]))
		}
	}
	return n, err
}
