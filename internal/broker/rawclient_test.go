package broker_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// raw speaks NATS' client protocol without a library's good manners, and
// remembers every byte that the server sent.
type raw struct {
	conn net.Conn

	mu       sync.Mutex
	received bytes.Buffer
	pongs    int
	closed   bool
	changed  chan struct{} // closed and replaced at each change
	sid      int
}

// rawAs connects with a device's own credentials.
func (f *fleet) rawAs(t testing.TB, id string) *raw {
	t.Helper()
	r := f.rawDial(t)
	r.send(connectLine(map[string]any{"auth_token": f.token(id)}) + "PING\r\n")
	if !r.sync(1) {
		t.Fatalf("%s could not connect: %s", id, r.bytes())
	}
	return r
}

// connectLine presents what it is given, as a client's library does.
func connectLine(credential map[string]any) string {
	line := map[string]any{"verbose": false, "pedantic": false, "headers": true, "no_responders": true, "protocol": 1,
		"lang": "raw", "version": "0", "tls_required": true}
	maps.Copy(line, credential)
	data, _ := json.Marshal(line)
	return "CONNECT " + string(data) + "\r\n"
}

func password(user, password string) map[string]any {
	return map[string]any{"user": user, "pass": password}
}

func (f *fleet) rawDial(t testing.TB) *raw {
	t.Helper()
	conn := must(net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(f.broker.Port())), patience))(t)
	t.Cleanup(func() { _ = conn.Close() })
	// The server's INFO comes in the clear, then TLS begins.
	if _, err := bufio.NewReaderSize(onlyLine{conn}, 1).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	secured := tls.Client(conn, &tls.Config{RootCAs: f.ca.Pool(), ServerName: "127.0.0.1"})
	r := &raw{conn: secured, changed: make(chan struct{})}
	if err := secured.HandshakeContext(timeout(t)); err != nil {
		t.Fatal(err)
	}
	go r.read()
	return r
}

// onlyLine reads a byte at a time, so that nothing after INFO is swallowed.
type onlyLine struct{ net.Conn }

func (o onlyLine) Read(p []byte) (int, error) { return o.Conn.Read(p[:1]) }

func (r *raw) read() {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.conn.Read(buf)
		r.mu.Lock()
		r.received.Write(buf[:n])
		r.pongs = bytes.Count(r.received.Bytes(), []byte("PONG\r\n"))
		r.closed = err != nil
		close(r.changed)
		r.changed = make(chan struct{})
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (r *raw) send(s string) {
	_ = r.conn.SetWriteDeadline(time.Now().Add(patience))
	_, _ = r.conn.Write([]byte(s)) // a server that hung up is seen by sync
}

// pub publishes; headers are lines without line ends.
func (r *raw) pub(subject, reply, payload string, headers ...string) {
	if len(headers) == 0 {
		r.send(fmt.Sprintf("PUB %s %s %d\r\n%s\r\n", subject, reply, len(payload), payload))
		return
	}
	h := "NATS/1.0\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n"
	r.send(fmt.Sprintf("HPUB %s %s %d %d\r\n%s%s\r\n", subject, reply, len(h), len(h)+len(payload), h, payload))
}

func (r *raw) sub(subject string, queue ...string) {
	r.sid++
	r.send(fmt.Sprintf("SUB %s %s %d\r\n", subject, strings.Join(queue, ""), r.sid))
}

// sync waits until the server has read everything, or hung up. It reports
// whether the connection is still up.
func (r *raw) sync(pongs int) bool {
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		closed, got, changed := r.closed, r.pongs, r.changed
		r.mu.Unlock()
		switch {
		case got >= pongs:
			return true
		case closed:
			return false
		}
		select {
		case <-changed:
		case <-deadline:
			return false
		}
	}
}

// settle makes sure that what was sent has been acted on.
func (r *raw) settle() (up bool) {
	r.mu.Lock()
	want := r.pongs + 1
	r.mu.Unlock()
	r.send("PING\r\n")
	return r.sync(want)
}

// up says whether the server has not hung up yet.
func (r *raw) up() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.closed
}

func (r *raw) bytes() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received.String()
}

// loot is what the server gave away: what it sent but for error lines, which
// repeat the client's own words.
func (r *raw) loot() string {
	var kept []string
	for line := range strings.Lines(r.bytes()) {
		if !strings.HasPrefix(line, "-ERR") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
