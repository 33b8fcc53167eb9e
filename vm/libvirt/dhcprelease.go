package libvirt

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// dhcpLease is an address that a network gave to a machine.
type dhcpLease struct {
	Address  string
	MAC      string
	ClientID string // hex pairs with colons; "" or "*": by MAC alone
	Bridge   string // interface of the network on this host
	Server   string // the network's own address
}

// DHCP, RFC 2131 and 2132.
const (
	bootRequest    = 1
	ethernet       = 1
	magicCookie    = 0x63825363
	optMessageType = 53
	optServerID    = 54
	optClientID    = 61
	optEnd         = 255
	msgRelease     = 7
	serverPort     = 67
)

// packet is the DHCPRELEASE of a lease.
func (l dhcpLease) packet() ([]byte, error) {
	mac, err := net.ParseMAC(l.MAC)
	if err != nil {
		return nil, fmt.Errorf("read a lease's MAC address: %w", err)
	}
	address, server := net.ParseIP(l.Address).To4(), net.ParseIP(l.Server).To4()
	if address == nil || server == nil {
		return nil, errors.New("a lease without IPv4 addresses")
	}
	p := make([]byte, 240, 300)
	p[0], p[1], p[2] = bootRequest, ethernet, byte(len(mac))
	copy(p[4:8], mac[2:]) // transaction id; nobody answers a release
	copy(p[12:16], address)
	copy(p[28:], mac)
	binary.BigEndian.PutUint32(p[236:], magicCookie)
	p = append(p, optMessageType, 1, msgRelease, optServerID, 4)
	p = append(p, server...)
	if id, err := hex.DecodeString(strings.ReplaceAll(l.ClientID, ":", "")); err == nil && len(id) > 0 {
		p = append(append(p, optClientID, byte(len(id))), id...)
	}
	p = append(p, optEnd)
	return p[:max(len(p), 300)], nil // BOOTP's smallest packet
}

// release gives an address back in the guest's name, since one whose plug was
// pulled does not: a machine of the same name would find a stale lease. libvirt
// has no call for it. The host is on the network itself, so that the server
// listens.
func (l dhcpLease) release() error {
	packet, err := l.packet()
	if err != nil {
		return err
	}
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer syscall.Close(socket)
	if err := syscall.SetsockoptString(socket, syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, l.Bridge); err != nil {
		return fmt.Errorf("bind to %s: %w", l.Bridge, err)
	}
	to := &syscall.SockaddrInet4{Port: serverPort}
	copy(to.Addr[:], net.ParseIP(l.Server).To4())
	if err := syscall.Sendto(socket, packet, 0, to); err != nil {
		return fmt.Errorf("send to %s: %w", l.Server, err)
	}
	return nil
}
