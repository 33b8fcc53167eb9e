package systemtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/nationtech/fleetctl/internal/testhost/netns"
)

// Addresses of a played cluster. They are in network namespaces of their own, so
// that each cluster has the same.
const (
	nodeIP       = "10.244.0.1"
	kubernetesIP = "10.96.0.1"  // of Service kubernetes
	dnsIP        = "10.96.0.10" // of the cluster's DNS
	ingressIP    = "192.0.2.80" // where the world finds the ingress
)

// playedNetwork is that of a cluster: a bridge, a network namespace for each pod,
// addresses of Services that lead to pods, and a DNS.
type playedNetwork struct {
	t    *testing.T
	name string // of the node's namespace
	// lookUp is the DNS: the addresses of a name, which may have none; unknown
	// names are false.
	lookUp func(name string) ([]netip.Addr, bool)

	mu   sync.Mutex
	pods int
	open map[string]net.Listener
}

func newPlayedNetwork(t *testing.T) *playedNetwork {
	t.Helper()
	n := &playedNetwork{t: t, name: fmt.Sprintf("fleet-k%d", os.Getpid()), open: map[string]net.Listener{}}
	n.ip("netns add " + n.name)
	t.Cleanup(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, l := range n.open {
			_ = l.Close()
		}
		for pod := range n.pods {
			n.ip("netns del " + n.podName(pod))
		}
		n.ip("netns del " + n.name)
	})
	on := "-n " + n.name + " "
	n.ip(on+"link set lo up", on+"link add cni0 type bridge", on+"addr add "+nodeIP+"/24 dev cni0", on+"link set cni0 up")
	n.address(dnsIP)
	n.address(ingressIP)
	return n
}

func (n *playedNetwork) path() string           { return filepath.Join("/run/netns", n.name) }
func (n *playedNetwork) podName(pod int) string { return fmt.Sprintf("%s-%d", n.name, pod) }

func (n *playedNetwork) ip(commands ...string) {
	n.t.Helper()
	for _, c := range commands {
		if out, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			n.t.Errorf("ip %s: %v: %s", c, err, out)
		}
	}
}

// address makes the node answer at one more.
func (n *playedNetwork) address(ip string) { n.ip("-n " + n.name + " addr add " + ip + "/32 dev lo") }

// pod makes a network namespace that reaches the node and other pods.
func (n *playedNetwork) pod() (path, address string) {
	n.mu.Lock()
	pod := n.pods
	n.pods++
	n.mu.Unlock()
	name, cable := n.podName(pod), "pod"+strconv.Itoa(pod)
	address = fmt.Sprintf("10.244.0.%d", 10+pod)
	n.ip("netns add "+name,
		"-n "+n.name+" link add "+cable+" type veth peer name eth0 netns "+name,
		"-n "+n.name+" link set "+cable+" master cni0 up",
		"-n "+name+" link set lo up", "-n "+name+" addr add "+address+"/24 dev eth0", "-n "+name+" link set eth0 up",
		"-n "+name+" route add default via "+nodeIP)
	return filepath.Join("/run/netns", name), address
}

// forward leads connections to an address of the node to wherever connect does; an
// address that is led somewhere already stays so.
func (n *playedNetwork) forward(address string, connect func(context.Context) (net.Conn, error)) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open[address] != nil {
		return
	}
	listener, err := netns.Listen(n.path(), address)
	if err != nil {
		n.t.Errorf("listen at %s: %v", address, err)
		return
	}
	n.open[address] = listener
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return // closed by the end of the test
			}
			go func() {
				defer near.Close()
				far, err := connect(context.Background())
				if err != nil {
					return // as a connection that is reset
				}
				defer far.Close()
				splice(near, far)
			}()
		}
	}()
}

// splice copies both ways, each until its end.
func splice(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			if half, ok := way[0].(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
}

// serveDNS answers until the test ends.
func (n *playedNetwork) serveDNS() {
	n.t.Helper()
	var socket net.PacketConn
	if err := netns.Do(n.path(), func() (err error) {
		socket, err = net.ListenPacket("udp", net.JoinHostPort(dnsIP, "53"))
		return err
	}); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = socket.Close() })
	go func() {
		packet := make([]byte, 1500)
		for {
			size, from, err := socket.ReadFrom(packet)
			if err != nil {
				return
			}
			if answer, err := n.answer(packet[:size]); err == nil {
				_, _ = socket.WriteTo(answer, from)
			}
		}
	}()
}

func (n *playedNetwork) answer(packet []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("no question: %w", err)
	}
	m.Response, m.RecursionAvailable, m.Answers, m.Additionals = true, true, nil, nil
	q := m.Questions[0]
	addresses, known := n.lookUp(strings.TrimSuffix(strings.ToLower(q.Name.String()), "."))
	if !known {
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, a := range addresses {
		if q.Type == dnsmessage.TypeA {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body: &dnsmessage.AResource{A: a.As4()}})
		}
	}
	return m.Pack()
}

// leads says whether an address of the node is led somewhere.
func (n *playedNetwork) leads(address string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open[address] != nil
}
