package sshhost

import (
	"net"

	"golang.org/x/sys/unix"
)

// prompt acknowledges what arrives at once. sshd sends small packets, and
// without a terminal it leaves Nagle's algorithm on: its next packet waits for
// the acknowledgement of the one before, which Linux holds back for 40 ms.
type prompt struct{ *net.TCPConn }

// Read sets TCP_QUICKACK (tcp(7)) each time: the kernel takes it back by itself.
func (p prompt) Read(b []byte) (int, error) {
	if raw, err := p.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // slower without it, no worse
		})
	}
	return p.TCPConn.Read(b)
}

func promptly(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return prompt{tcp}
	}
	return conn
}
