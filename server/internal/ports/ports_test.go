package ports

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
)

const host = "127.0.0.1"

func open(t *testing.T, dir string) *Book {
	t.Helper()
	b, err := Open(dir, host)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// taken gives a port that somebody else listens on.
func taken(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestAPortIsKept(t *testing.T) {
	dir := t.TempDir()
	request := Request{Name: "NATS", Flag: "nats-port", Preferred: taken(t)}
	first, err := open(t, dir).Reserve(request)
	if err != nil {
		t.Fatal(err)
	}
	if first == request.Preferred {
		t.Fatalf("got port %d, which is taken", first)
	}
	request.Preferred = taken(t) // no longer matters
	second, err := open(t, dir).Reserve(request)
	if err != nil {
		t.Fatal(err)
	}
	if second != first {
		t.Errorf("port %d after a restart, was %d", second, first)
	}
	other, err := open(t, dir).Reserve(Request{Name: "HTTPS API", Flag: "api-port", Preferred: first})
	if err != nil {
		t.Fatal(err)
	}
	if other != first {
		t.Errorf("a free port was passed over: got %d, want %d", other, first)
	}
}

func TestAFixedPortThatIsTakenIsRefused(t *testing.T) {
	dir := t.TempDir()
	port := taken(t)
	request := Request{Name: "NATS", Flag: "nats-port", Wanted: port, Preferred: port}
	_, err := open(t, dir).Listen(request)
	if err == nil {
		t.Fatal("listens on a port that is taken")
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("port %d of NATS is taken", port)) || !strings.Contains(hint.Of(err), "--nats-port") {
		t.Errorf("error %q with hint %q names neither port nor flag", err, hint.Of(err))
	}
	if _, err := os.Stat(filepath.Join(dir, "ports.json")); err == nil {
		t.Error("a port that never opened was remembered")
	}
}

func TestAnAddressOfAnotherMachineIsRefused(t *testing.T) {
	b, err := Open(t.TempDir(), "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen(Request{Name: "NATS", Flag: "nats-port", Preferred: 4222}); err == nil || !strings.Contains(hint.Of(err), "--listen-address") {
		t.Errorf("error %v with hint %q does not lead to the flag", err, hint.Of(err))
	}
}

func TestABrokenBookIsNotGuessedAt(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ports.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, host); err == nil || hint.Of(err) == "" {
		t.Errorf("error %v with hint %q, want both", err, hint.Of(err))
	}
}
