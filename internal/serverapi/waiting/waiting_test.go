package waiting_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/serverapi/waiting"
)

var (
	authority = []byte("the authority")
	nonce     = bytes.Repeat([]byte{3}, join.NonceBytes)
)

func request(device string) join.Request {
	return join.Request{DeviceID: device, MachineID: "m", IdentityKey: "key of " + device, SealingKey: make([]byte, 32), Commitment: join.Commit(nonce)}
}

type list struct {
	*waiting.List
	t   *testing.T
	now time.Time
}

func newList(t *testing.T) *list {
	l := &list{t: t, now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	l.List = waiting.New(authority, func() time.Time { return l.now })
	return l
}

// ask brings a request to where a person can decide, and gives its code.
func (l *list) ask(r join.Request, source string) (join.Receipt, string) {
	l.t.Helper()
	receipt, err := l.Add(r, source)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.Reveal(receipt.ID, receipt.Token, nonce); err != nil {
		l.t.Fatal(err)
	}
	return receipt, join.Code(authority, r, receipt, nonce)
}

func (l *list) state(r join.Receipt) join.State {
	l.t.Helper()
	s, err := l.Status(r.ID, r.Token)
	if err != nil {
		l.t.Fatal(err)
	}
	return s.State
}

func TestApprove(t *testing.T) {
	l := newList(t)
	receipt, code := l.ask(request("pi"), "192.0.2.1")
	l.now = l.now.Add(time.Second)
	other, otherCode := l.ask(request("pi"), "192.0.2.66") // the same id from elsewhere
	if code == otherCode || l.state(receipt) != join.Pending {
		t.Fatal("two requests show the same code, or one is decided already")
	}
	if all := l.Waiting(); len(all) != 2 || all[0].Source != "192.0.2.1" {
		t.Fatalf("waiting: %+v", all)
	}
	for device, typed := range map[string]string{"pi": "BBBB-BBBB", "pi2": code} {
		if _, err := l.Find(device, typed); !errors.Is(err, waiting.ErrCode) {
			t.Errorf("device %s, code %s: %v", device, typed, err)
		}
	}
	found, err := l.Find("pi", code)
	if err != nil || found.Receipt.ID != receipt.ID {
		t.Fatalf("found %+v, %v", found, err)
	}
	if err := l.Approve(found.Receipt.ID, join.Grant{KeyID: "7"}); err != nil {
		t.Fatal(err)
	}
	if s, err := l.Status(receipt.ID, receipt.Token); err != nil || s.State != join.Approved || s.Grant.KeyID != "7" {
		t.Errorf("status %+v, %v", s, err)
	}
	if l.state(other) != join.Pending {
		t.Error("the other request was decided as well")
	}
	if _, err := l.Find("pi", code); !errors.Is(err, waiting.ErrCode) {
		t.Errorf("approved twice: %v", err)
	}
}

func TestDeny(t *testing.T) {
	l := newList(t)
	receipt, _ := l.ask(request("pi"), "192.0.2.1")
	if l.Deny("pi2") != 0 || l.Deny("pi") != 1 || l.Deny("pi") != 0 || l.state(receipt) != join.Denied || len(l.Waiting()) != 0 {
		t.Error("not denied once")
	}
}

// Only who asked hears what became of it, and only the nonce that was committed
// to counts.
func TestStrangers(t *testing.T) {
	l := newList(t)
	receipt, err := l.Add(request("pi"), "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Waiting()) != 0 {
		t.Error("shown before its code is")
	}
	for _, token := range []string{"", "x", receipt.ID} {
		if _, err := l.Status(receipt.ID, token); !errors.Is(err, waiting.ErrUnknown) {
			t.Errorf("token %q: %v", token, err)
		}
		if err := l.Reveal(receipt.ID, token, nonce); !errors.Is(err, waiting.ErrUnknown) {
			t.Errorf("token %q: %v", token, err)
		}
	}
	if err := l.Reveal(receipt.ID, receipt.Token, make([]byte, join.NonceBytes)); !errors.Is(err, waiting.ErrNonce) {
		t.Errorf("another nonce: %v", err)
	}
	if err := l.Reveal(receipt.ID, receipt.Token, nonce); !errors.Is(err, waiting.ErrUnknown) {
		t.Errorf("a second try: %v", err)
	}
}

func TestBounds(t *testing.T) {
	l := newList(t)
	refused := 0
	for i := range 40 { // one address, at once
		if _, err := l.Add(request(fmt.Sprintf("pi-%d", i)), "192.0.2.1"); errors.Is(err, waiting.ErrTooFast) {
			refused++
		}
	}
	if refused < 30 {
		t.Errorf("%d of 40 were refused", refused)
	}
	full := 0
	for i := range 400 { // many addresses
		if _, err := l.Add(request(fmt.Sprintf("x-%d", i)), fmt.Sprintf("198.51.100.%d", i)); errors.Is(err, waiting.ErrFull) {
			full++
		}
	}
	if full < 100 {
		t.Errorf("%d of 400 found no room", full)
	}
	l.now = l.now.Add(waiting.Lifetime)
	if _, err := l.Add(request("later"), "192.0.2.1"); err != nil {
		t.Errorf("old requests still fill the list: %v", err)
	}
}

// A device that was restarted takes its own place, however often.
func TestAskingAgain(t *testing.T) {
	l := newList(t)
	var first join.Receipt
	for i := range 30 {
		receipt, _ := l.ask(request("pi"), "192.0.2.1")
		if i == 0 {
			first = receipt
		}
		l.now = l.now.Add(20 * time.Second)
	}
	if n := len(l.Waiting()); n != 1 {
		t.Errorf("%d requests wait", n)
	}
	if _, err := l.Status(first.ID, first.Token); !errors.Is(err, waiting.ErrUnknown) {
		t.Errorf("the first request is still there: %v", err)
	}
}

func TestGuessing(t *testing.T) {
	l := newList(t)
	_, code := l.ask(request("pi"), "192.0.2.1")
	tooFast := 0
	for range 20 {
		if _, err := l.Find("pi", "BCDF-GHJK"); errors.Is(err, waiting.ErrTooFast) {
			tooFast++
		}
	}
	if tooFast < 10 {
		t.Errorf("%d of 20 guesses were too fast", tooFast)
	}
	l.now = l.now.Add(time.Minute)
	if _, err := l.Find("pi", code); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	l := newList(t)
	receipt, code := l.ask(request("pi"), "192.0.2.1")
	l.now = l.now.Add(waiting.Lifetime)
	if _, err := l.Status(receipt.ID, receipt.Token); !errors.Is(err, waiting.ErrUnknown) {
		t.Errorf("status: %v", err)
	}
	if _, err := l.Find("pi", code); !errors.Is(err, waiting.ErrCode) {
		t.Errorf("an old code: %v", err)
	}
}
