// Command apt-proxy lets the virtual machines of a network namespace fetch
// Debian packages: it listens inside the namespace and dials from outside. It
// leads to the mirrors of this machine's apt and nowhere else. It prints its
// address once it listens, and ends on SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nationtech/fleetctl/internal/testhost/netns"
	"github.com/nationtech/fleetctl/internal/testhost/proxy"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "apt-proxy:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "", "`address` to serve on")
	namespace := flag.String("netns", "", "network namespace to listen in, such as /run/netns/`NAME`; empty is our own")
	flag.Parse()
	if *listen == "" {
		return errors.New("--listen ADDRESS is needed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	mirrors, err := proxy.Mirrors()
	if err != nil {
		return fmt.Errorf("find this machine's package mirrors: %w", err)
	}
	listener, err := netns.Listen(*namespace, *listen)
	if err != nil {
		return err
	}
	server := proxy.Serve(listener, mirrors)
	fmt.Println(server.Addr())
	<-ctx.Done()
	return server.Close()
}
