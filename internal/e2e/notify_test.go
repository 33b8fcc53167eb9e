//go:build hosts || vm

package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listenNotify gives the command a socket for sd_notify(3) and returns a
// function that waits for READY=1 on it.
func listenNotify(t testing.TB, cmd *exec.Cmd) (ready func(time.Duration) error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path)
	return func(within time.Duration) error {
		defer os.RemoveAll(dir)
		defer socket.Close()
		if err := socket.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		message := make([]byte, 4096)
		for {
			n, err := socket.Read(message)
			if err != nil {
				return errors.Join(errors.New("no READY=1"), err)
			}
			if strings.Contains(string(message[:n]), "READY=1") {
				return nil
			}
		}
	}
}
