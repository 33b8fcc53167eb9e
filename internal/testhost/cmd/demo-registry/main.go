// Command demo-registry serves the demo's container registry and pushes the
// demo's app into it. It ends on SIGTERM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nationtech/fleetctl/internal/testhost/registry"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "demo-registry:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "", "`address` to serve on, plain HTTP")
	dir := flag.String("dir", "", "`directory` of the content, found again by a later run")
	binary := flag.String("app", "", "static `binary` that the image holds")
	arch := flag.String("arch", "", "GOARCH of the binary")
	push := flag.String("push", "", "`name:version` to push the image as")
	flag.Parse()
	_, version, ok := strings.Cut(*push, ":")
	if *listen == "" || *dir == "" || *binary == "" || *arch == "" || !ok {
		return errors.New("--listen, --dir, --app, --arch and --push NAME:VERSION are needed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server, err := registry.Serve(listener, *dir)
	if err != nil {
		return err
	}
	app := registry.App{Binary: *binary, Arch: *arch, Version: version}
	if err := app.Push(ctx, server.Addr()+"/"+*push); err != nil {
		return errors.Join(err, server.Close())
	}
	<-ctx.Done()
	return server.Close()
}
