package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/nationtech/fleetctl/vm"
)

type vmCopyOptions struct{ from, to, sshKey string }

func newVMCopyCmd(v *vmFactory) *cobra.Command {
	o := &vmCopyOptions{}
	cmd := &cobra.Command{
		Use:   "cp SOURCE TARGET",
		Short: "Copy files into a machine or out of it",
		Long:  "Copies a file or a directory between this machine and a virtual one; one side is\nNAME:PATH.",
		Example: `  fleetctl vm cp ./app demo:/tmp/app
  fleetctl vm cp demo:/var/log/syslog .`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.from, o.to = args[0], args[1]
			return runVMCopy(cmd.Context(), v, o)
		},
	}
	cmd.Flags().StringVar(&o.sshKey, "ssh-key", "", "private key `file` (default: the one that fleetctl made)")
	return cmd
}

// guestPath splits NAME:PATH; a path without a machine has name "".
func guestPath(text string) (name, path string) {
	before, after, found := strings.Cut(text, ":")
	if !found || vm.CheckName(before) != nil {
		return "", text
	}
	if after == "" {
		after = "."
	}
	return before, after
}

func runVMCopy(ctx context.Context, v *vmFactory, o *vmCopyOptions) error {
	fromVM, from := guestPath(o.from)
	toVM, to := guestPath(o.to)
	if (fromVM == "") == (toVM == "") {
		return usageError(errors.New("one side must be in a machine"), "for example: fleetctl vm cp ./app demo:/tmp/app")
	}
	client, err := v.dialVM(ctx, fromVM+toVM, o.sshKey)
	if err != nil {
		return err
	}
	defer client.Close()
	if toVM != "" {
		err = client.Put(ctx, from, to)
	} else {
		err = client.Get(ctx, from, to)
	}
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", o.from, o.to, err)
	}
	return nil
}

type vmForwardOptions struct {
	name    string
	ports   []string
	address string
	sshKey  string
}

func newVMForwardCmd(v *vmFactory) *cobra.Command {
	o := &vmForwardOptions{}
	cmd := &cobra.Command{
		Use:   "port-forward NAME LOCAL[:REMOTE]...",
		Short: "Reach a machine's ports from this one, until interrupted",
		Example: `  fleetctl vm port-forward demo 8080
  fleetctl vm port-forward demo 8080:80 5432`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: v.completeVMs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name, o.ports = args[0], args[1:]
			return runVMForward(cmd.Context(), v, o)
		},
	}
	cmd.Flags().StringVar(&o.address, "address", "127.0.0.1", "`address` of this machine to listen on")
	cmd.Flags().StringVar(&o.sshKey, "ssh-key", "", "private key `file` (default: the one that fleetctl made)")
	return cmd
}

// parseForward reads LOCAL[:REMOTE]; local port 0 means any free one.
func parseForward(text string) (local, remote string, err error) {
	local, remote, found := strings.Cut(text, ":")
	if !found {
		remote = local
	}
	l, err1 := strconv.ParseUint(local, 10, 16)
	r, err2 := strconv.ParseUint(remote, 10, 16)
	if err1 != nil || err2 != nil || r == 0 || (l == 0 && !found) {
		return "", "", usageError(fmt.Errorf("%q is not a pair of ports", text), "for example: 8080:80")
	}
	return local, remote, nil
}

func runVMForward(ctx context.Context, v *vmFactory, o *vmForwardOptions) error {
	type forward struct{ local, remote string }
	var forwards []forward
	for _, text := range o.ports {
		local, remote, err := parseForward(text)
		if err != nil {
			return err
		}
		forwards = append(forwards, forward{local, remote})
	}
	client, err := v.dialVM(ctx, o.name, o.sshKey)
	if err != nil {
		return err
	}
	defer client.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { // a guest that goes away ends the command
		gone := make(chan error, 1)
		go func() { gone <- client.Wait() }()
		select {
		case err := <-gone:
			return fmt.Errorf("the connection to %s ended: %w", o.name, errors.Join(err, io.EOF))
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	for _, f := range forwards {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(o.address, f.local))
		if err != nil {
			return usageError(fmt.Errorf("listen: %w", err), "choose another local port: LOCAL:"+f.remote)
		}
		fmt.Fprintf(v.Err, "%s is port %s of %s\n", listener.Addr(), f.remote, o.name)
		group.Go(func() error {
			return client.Forward(ctx, listener, net.JoinHostPort("127.0.0.1", f.remote), func(err error) { fmt.Fprintln(v.Err, err) })
		})
	}
	return group.Wait()
}
