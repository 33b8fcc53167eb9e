package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/wire"
)

type execOptions struct {
	device  string
	request wire.ExecRequest
}

func newExecCmd(f *Factory) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [-it] DEVICE SERVICE -- COMMAND [ARG]...",
		Short: "Run a command in a service's container on a device",
		Long: `Run a command in a service's container on a device. SERVICE is a deployment, or
DEPLOYMENT/SERVICE where it has several. fleetctl ends with the command's exit code.

-i passes standard input on, -t gives the command a terminal: together they make
a shell. Without a terminal, ctrl-C ends the command and exits 130. What was run is
on record (fleetctl audit).`,
		Example: "  fleetctl exec -it pi-1 web -- sh\n  fleetctl exec pi-1 shop/db -- pg_dump shop > shop.sql\n  fleetctl exec -i pi-1 shop/db -- psql shop < shop.sql",
		Args:    cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.device, o.request.Target, o.request.Command = args[0], serviceTarget(args[1]), args[2:]
			return runExec(cmd.Context(), f, o)
		},
	}
	cmd.Flags().BoolVarP(&o.request.Stdin, "stdin", "i", false, "pass standard input on")
	cmd.Flags().BoolVarP(&o.request.TTY, "tty", "t", false, "give the command a terminal")
	return cmd
}

// serviceTarget reads DEPLOYMENT or DEPLOYMENT/SERVICE.
func serviceTarget(text string) wire.Target {
	deployment, service, _ := strings.Cut(text, "/")
	return wire.Target{Deployment: deployment, Service: service}
}

func runExec(ctx context.Context, f *Factory, o execOptions) error {
	if err := o.request.Validate(); err != nil {
		return usageError(err, "see: fleetctl exec --help")
	}
	if o.request.TTY && (!f.InTerminal || !f.OutTerminal) {
		return usageError(errors.New("-t needs a terminal, and this is none"), "leave -t out")
	}
	api, err := f.API()
	if err != nil {
		return err
	}
	t := apiclient.Terminal{Out: f.Out, ErrOut: f.Err}
	if o.request.Stdin {
		t.In = f.In
	}
	if o.request.TTY {
		restore, err := f.rawTerminal(ctx, &o.request.Size, &t)
		if err != nil {
			return err
		}
		defer restore()
	}
	code, err := api.Exec(ctx, o.device, o.request, t)
	if err != nil {
		return err
	}
	if code != 0 {
		return &exitError{code}
	}
	return nil
}

// rawTerminal hands the person's terminal to the command: every key goes there,
// ctrl-C too, and its size is followed.
func (f *Factory) rawTerminal(ctx context.Context, size *wire.Size, t *apiclient.Terminal) (restore func(), err error) {
	in, ok := f.In.(*os.File)
	if !ok {
		return nil, errors.New("standard input is no terminal")
	}
	fd := int(in.Fd())
	now := func() wire.Size {
		columns, rows, err := term.GetSize(fd)
		if err != nil {
			return wire.Size{Rows: 24, Columns: 80}
		}
		return wire.Size{Rows: uint16(rows), Columns: uint16(columns)} //nolint:gosec // as the kernel has them
	}
	*size = now()
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("set the terminal up: %w", err)
	}
	changed, sizes := make(chan os.Signal, 1), make(chan wire.Size)
	signal.Notify(changed, syscall.SIGWINCH)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			select {
			case <-ctx.Done():
				return
			case sizes <- now():
			}
		}
	}()
	t.Sizes = sizes
	return func() {
		cancel()
		signal.Stop(changed)
		_ = term.Restore(fd, before) // nobody is left to tell
	}, nil
}
