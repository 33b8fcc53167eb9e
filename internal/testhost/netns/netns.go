// Package netns does single things inside another network namespace: open a
// listener there, or dial from there. The sockets stay in that namespace while
// the program goes on in its own. Making namespaces is the caller's affair.
package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs fn with the calling thread in the namespace at path, such as
// /run/netns/NAME. fn makes its sockets before it returns and in the same
// goroutine: goroutines that it starts run outside.
func Do(path string, fn func() error) (err error) {
	target, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the network namespace: %w", err)
	}
	defer target.Close()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open our own network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the network namespace %s: %w", path, err)
	}
	defer func() {
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			// The thread stays locked, so it ends with its goroutine and
			// nothing else runs in the wrong namespace.
			err = errors.Join(err, fmt.Errorf("leave the network namespace %s: %w", path, back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// Listen opens a TCP listener inside the namespace at path; "" is our own.
func Listen(path, addr string) (net.Listener, error) {
	if path == "" {
		return net.Listen("tcp", addr)
	}
	var l net.Listener
	err := Do(path, func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	return l, err
}
