//go:build cgo && libvirt_dlopen

package libvirt

import (
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// leaseOf is the machine's IPv4 address, "" as long as it has none; of several
// the one that was given last, which is the one that runs out last.
func leaseOf(conn *libvirt.Connect, network, mac string) string {
	leases, err := leases(conn, network, mac)
	if err != nil {
		return ""
	}
	var address string
	var latest time.Time
	for _, l := range leases {
		if l.Type == libvirt.IP_ADDR_TYPE_IPV4 && l.ExpiryTime.After(latest) {
			address, latest = l.IPaddr, l.ExpiryTime
		}
	}
	return address
}

func leases(conn *libvirt.Connect, network, mac string) ([]libvirt.NetworkDHCPLease, error) {
	net, err := conn.LookupNetworkByName(network)
	if err != nil {
		return nil, fmt.Errorf("look up network %s: %w", network, plain(err))
	}
	defer net.Free()
	all, err := net.GetDHCPLeases()
	if err != nil {
		return nil, fmt.Errorf("read the leases of network %s: %w", network, plain(err))
	}
	mine := all[:0]
	for _, l := range all {
		if l.Mac == mac {
			mine = append(mine, l)
		}
	}
	return mine, nil
}

// releaseLeases gives back what a machine was given. It is a courtesy to the
// next machine of that name, so that a failure is logged and no more.
func (h *Hypervisor) releaseLeases(network, mac string) {
	if h.remote { // the server hears hosts of its own network only
		return
	}
	mine, err := leases(h.conn, network, mac)
	if err != nil || len(mine) == 0 {
		return
	}
	server, err := h.networkAddress(network)
	for _, l := range mine {
		if err == nil {
			err = dhcpLease{Address: l.IPaddr, MAC: l.Mac, ClientID: l.Clientid, Bridge: l.Iface, Server: server}.release()
		}
		if err != nil {
			h.Log.Warn("the machine's address is not given back; it runs out by itself", "address", l.IPaddr, "error", err)
		}
	}
}

// networkAddress is the host's own address on a network.
func (h *Hypervisor) networkAddress(name string) (string, error) {
	network, err := h.conn.LookupNetworkByName(name)
	if err != nil {
		return "", plain(err)
	}
	defer network.Free()
	text, err := network.GetXMLDesc(0)
	if err != nil {
		return "", plain(err)
	}
	var n libvirtxml.Network
	if err := n.Unmarshal(text); err != nil {
		return "", err
	}
	for _, ip := range n.IPs {
		if ip.Family == "" || ip.Family == "ipv4" {
			return ip.Address, nil
		}
	}
	return "", fmt.Errorf("network %s has no IPv4 address", name)
}
