// Package ports chooses the ports of a server once and keeps them: kubeconfigs
// and devices have them written down, so a restart must not change them.
package ports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

// spread is how many ports from the preferred one on are tried. It stays below
// the ports that kernels hand out for outgoing connections, so that nothing
// takes ours between two starts.
const spread = 100

// Book remembers the ports of one data directory.
type Book struct {
	path string
	host string // listen address
	used map[string]int
}

// Request is a port to open.
type Request struct {
	Name      string // what listens, such as "kubernetes"
	Flag      string // the flag that chooses it, for hints
	Wanted    int    // chosen by the user; 0 for the remembered one, else any
	Preferred int    // where to look first when there is neither
}

// Open reads the ports that earlier starts in dir used. Host is the address to
// listen on.
func Open(dir, host string) (*Book, error) {
	b := &Book{path: filepath.Join(dir, "ports.json"), host: host, used: map[string]int{}}
	data, err := os.ReadFile(b.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return b, nil
	case err != nil:
		return nil, fmt.Errorf("read remembered ports: %w", err)
	}
	if err := json.Unmarshal(data, &b.used); err != nil {
		return nil, hint.Wrap(fmt.Errorf("decode remembered ports in %s: %w", b.path, err),
			"repair the file, or remove it to have ports chosen anew")
	}
	return b, nil
}

// Listen opens the requested port and remembers it.
func (b *Book) Listen(r Request) (net.Listener, error) {
	l, err := b.listen(r)
	if err != nil {
		return nil, err
	}
	b.used[r.Name] = l.Addr().(*net.TCPAddr).Port
	if err := b.save(); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// Reserve is Listen for those that open the port themselves.
func (b *Book) Reserve(r Request) (int, error) {
	l, err := b.Listen(r)
	if err != nil {
		return 0, err
	}
	return b.used[r.Name], l.Close()
}

func (b *Book) listen(r Request) (net.Listener, error) {
	fixed := r.Wanted
	if fixed == 0 {
		fixed = b.used[r.Name]
	}
	if fixed != 0 {
		l, err := b.open(fixed)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, hint.Wrap(fmt.Errorf("port %d of %s is taken by another process", fixed, r.Name),
				fmt.Sprintf("see who has it with: ss -ltnp sport = :%d, or choose another with --%s PORT", fixed, r.Flag))
		}
		return l, b.explain(r, err)
	}
	for port := r.Preferred; port < r.Preferred+spread; port++ {
		l, err := b.open(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, b.explain(r, err)
		}
	}
	return nil, hint.New(fmt.Sprintf("no free port for %s from %d to %d", r.Name, r.Preferred, r.Preferred+spread-1),
		fmt.Sprintf("choose one with --%s PORT", r.Flag))
}

func (b *Book) open(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(b.host, strconv.Itoa(port)))
}

func (b *Book) explain(r Request, err error) error {
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return hint.Wrap(fmt.Errorf("open port of %s: %w", r.Name, err), "--listen-address has to be an address of this machine: see ip addr")
	}
	if err != nil {
		return fmt.Errorf("open port of %s: %w", r.Name, err)
	}
	return nil
}

func (b *Book) save() error {
	data, err := json.Marshal(b.used)
	if err != nil {
		return fmt.Errorf("encode ports: %w", err)
	}
	if err := secretfile.Write(b.path, append(data, '\n')); err != nil {
		return fmt.Errorf("remember ports: %w", err)
	}
	return nil
}
