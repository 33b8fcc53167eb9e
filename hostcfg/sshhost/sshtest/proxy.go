package sshtest

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy that makes the network slow, counts, and breaks.
type Proxy struct {
	Addr string // host:port on loopback to connect to

	target   string
	rtt      time.Duration
	listener net.Listener
	open     sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	up     int64 // bytes towards the target
	down   int64
	turns  int  // bursts towards the target that followed one from it
	last   bool // the last bytes went towards the target
	cutAt  int64
	frozen bool
}

// NewProxy starts a proxy in front of target that adds rtt to every round
// trip. It ends with the test.
func NewProxy(t testing.TB, target string, rtt time.Duration) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, rtt: rtt, listener: l}
	p.open.Add(1)
	go p.serve()
	t.Cleanup(p.Close)
	return p
}

// RoundTrips is how often the client spoke after it had heard: the number of
// round trips that it waited for.
func (p *Proxy) RoundTrips() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turns
}

// Bytes is how many went each way.
func (p *Proxy) Bytes() (up, down int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up, p.down
}

// CutAfter closes the connections when n more bytes went towards the target.
func (p *Proxy) CutAfter(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAt = p.up + n
}

// Freeze keeps the connections open and passes nothing on any more, like a
// host that lost its power.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.cut()
	p.open.Wait()
}

func (p *Proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *Proxy) serve() {
	defer p.open.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.open.Add(2)
		go p.pass(server, client, true)
		go p.pass(client, server, false)
	}
}

type parcel struct {
	at   time.Time
	data []byte
}

// pass copies one direction, each piece half a round trip after it came.
func (p *Proxy) pass(dst, src net.Conn, up bool) {
	defer p.open.Done()
	queue := make(chan parcel, 4096)
	p.open.Add(1)
	go func() {
		defer p.open.Done()
		for q := range queue {
			time.Sleep(time.Until(q.at))
			if _, err := dst.Write(q.data); err != nil {
				break
			}
		}
		_ = dst.Close()
		for range queue { // the reader must not block
		}
	}()
	defer close(queue)
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			n, err = p.account(n, up, err)
			if n > 0 {
				queue <- parcel{time.Now().Add(p.rtt / 2), append([]byte(nil), buf[:n]...)}
			}
		}
		if err != nil {
			return
		}
	}
}

// account counts n bytes and says how many of them may pass.
func (p *Proxy) account(n int, up bool, err error) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen {
		return 0, err
	}
	if !up {
		p.down += int64(n)
		p.last = false
		return n, err
	}
	if !p.last {
		p.turns++
	}
	p.last = true
	p.up += int64(n)
	if p.cutAt > 0 && p.up >= p.cutAt {
		n -= int(p.up - p.cutAt)
		p.cutAt = 0
		return n, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return n, err
}
