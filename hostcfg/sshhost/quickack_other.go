//go:build !linux

package sshhost

import "net"

// promptly is for Linux, whose acknowledgements are late.
func promptly(conn net.Conn) net.Conn { return conn }
