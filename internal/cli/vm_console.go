package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nationtech/fleetctl/vm/libvirt"
)

type vmConsoleOptions struct {
	name string
	log  bool
}

func newVMConsoleCmd(v *vmFactory) *cobra.Command {
	o := &vmConsoleOptions{}
	cmd := &cobra.Command{
		Use:   "console NAME",
		Short: "Attach to a machine's serial console; ctrl-] leaves",
		Example: `  fleetctl vm console demo
  fleetctl vm console demo --log`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: v.completeVMs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runVMConsole(cmd.Context(), v, o)
		},
	}
	cmd.Flags().BoolVar(&o.log, "log", false, "print what it said since its last start, and end")
	return cmd
}

// wholeLog is more than a console says in weeks.
const wholeLog = 64 << 20

func runVMConsole(ctx context.Context, v *vmFactory, o *vmConsoleOptions) error {
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	if o.log {
		text, err := h.ConsoleLog(ctx, o.name, wholeLog)
		if err != nil {
			return err
		}
		_, err = v.Out.Write(text)
		return err
	}
	return attach(ctx, v, h, o.name)
}

// attach joins the person's terminal, or pipes, with the console.
func attach(ctx context.Context, v *vmFactory, h *libvirt.Hypervisor, name string) error {
	console, err := h.OpenConsole(ctx, name)
	if err != nil {
		return err
	}
	if in, ok := v.In.(*os.File); ok && v.InTerminal {
		fmt.Fprintf(v.Err, "attached to %s; ctrl-] leaves\r\n", name)
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("set the terminal up: %w", err)
		}
		defer term.Restore(int(in.Fd()), before)
	}
	ended := make(chan error, 2)
	go func() {
		_, err := io.Copy(v.Out, console)
		ended <- err
	}()
	go func() { ended <- typeInto(console, v.In) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if closing := console.Close(); err == nil || errors.Is(err, io.EOF) {
		err = closing
	}
	return err
}

const leaveKey = 0x1d // ctrl-]

// typeInto passes what is typed until the key that leaves, or the end.
func typeInto(console io.Writer, in io.Reader) error {
	buffer := make([]byte, 4096)
	for {
		n, err := in.Read(buffer)
		for i, b := range buffer[:n] {
			if b == leaveKey {
				_, err := console.Write(buffer[:i])
				return err
			}
		}
		if _, err := console.Write(buffer[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
