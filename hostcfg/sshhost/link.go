package sshhost

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// link is an authenticated connection and the jump hosts that carry it.
type link struct {
	client *ssh.Client
	hops   []*ssh.Client // client is the last
	done   chan struct{} // the connection ended
	once   sync.Once

	mu  sync.Mutex
	why error // guarded by mu; set before done is closed
}

const (
	lostGrace        = time.Second // between the end of a session and that of its connection; a busy machine takes a while
	keepAliveMissing = 3
)

func newLink(hops []*ssh.Client, keepAlive time.Duration) *link {
	l := &link{client: hops[len(hops)-1], hops: hops, done: make(chan struct{})}
	go func() {
		err := l.client.Wait()
		l.because(err)
		close(l.done)
	}()
	if keepAlive > 0 {
		go l.keepAlive(keepAlive)
	}
	return l
}

func (l *link) because(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		l.why = err
	}
}

// keepAlive ends the connection when several keepalives in a row got no
// answer of any kind. OpenSSH answers this request with a failure.
func (l *link) keepAlive(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	answered := make(chan struct{}, 1)
	missing := 0
	for {
		select {
		case <-l.done:
			return
		case <-answered:
			missing = 0
		case <-tick.C:
			if missing == keepAliveMissing {
				l.because(fmt.Errorf("no answer to %d keepalives in %s", missing, time.Duration(missing)*every))
				l.close()
				return
			}
			if missing++; missing == 1 {
				go func() {
					if _, _, err := l.client.SendRequest("keepalive@openssh.com", true, nil); err == nil {
						answered <- struct{}{}
					}
				}()
			}
		}
	}
}

// lost gives why the connection ended, waiting a moment for that to be known;
// nil means that it is still there.
func (l *link) lost(wait time.Duration) error {
	select {
	case <-l.done:
	case <-time.After(wait):
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.why == nil {
		return errors.New("it was closed")
	}
	return l.why
}

func (l *link) close() {
	l.once.Do(func() { closeAll(l.hops) })
}
