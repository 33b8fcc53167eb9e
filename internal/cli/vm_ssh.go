package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/guest"
)

type vmSSHOptions struct {
	name    string
	command []string
	sshKey  string
	tty     bool
}

func newVMSSHCmd(v *vmFactory) *cobra.Command {
	o := &vmSSHOptions{}
	cmd := &cobra.Command{
		Use:   "ssh NAME [-- COMMAND...]",
		Short: "Log in to a virtual machine, or run a command in it",
		Long: `Logs in to a virtual machine, or runs a command in it and ends with that command's
exit code. The guest's host key is known from its creation and checked.`,
		Example: `  fleetctl vm ssh demo
  fleetctl vm ssh demo -- uname -a
  tar c . | fleetctl vm ssh demo -- tar x -C /tmp`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: v.completeVMs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name, o.command = args[0], args[1:]
			return runVMSSH(cmd.Context(), v, o)
		},
	}
	cmd.Flags().StringVar(&o.sshKey, "ssh-key", "", "private key `file` (default: the one that fleetctl made)")
	cmd.Flags().BoolVarP(&o.tty, "tty", "t", false, "give the command a terminal")
	return cmd
}

func runVMSSH(ctx context.Context, v *vmFactory, o *vmSSHOptions) error {
	client, err := v.dialVM(ctx, o.name, o.sshKey)
	if err != nil {
		return err
	}
	defer client.Close()
	command := strings.Join(o.command, " ")
	in, isFile := v.In.(*os.File)
	if (command == "" || o.tty) && v.InTerminal && isFile {
		err = client.Shell(ctx, command, guest.Terminal{In: in, Out: v.Out, Type: terminalType()})
	} else {
		err = client.Run(ctx, orShell(command), guest.Streams{In: v.In, Out: v.Out, Err: v.Err})
	}
	if exit := (*guest.ExitError)(nil); errors.As(err, &exit) {
		return &exitError{exit.Code}
	}
	return err
}

// orShell makes the login shell read its commands from standard input when
// none is given, as ssh does.
func orShell(command string) string {
	if command == "" {
		return "exec \"$SHELL\" -l"
	}
	return command
}

func terminalType() string {
	if kind := os.Getenv("TERM"); kind != "" {
		return kind
	}
	return "xterm"
}

// dialVM logs in to a machine that runs.
func (v *vmFactory) dialVM(ctx context.Context, name, key string) (*guest.Client, error) {
	h, err := v.hypervisor(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	machine, err := h.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	if machine.State != vm.Running {
		return nil, hint.WithCode(hint.Wrap(fmt.Errorf("virtual machine %s is %s", name, machine.State), "start it: fleetctl vm start "+name), hint.CodeUnreachable)
	}
	if machine.Address == "" {
		return nil, hint.WithCode(hint.Wrap(fmt.Errorf("virtual machine %s has no address yet", name), "watch it start: fleetctl vm console "+name), hint.CodeUnreachable)
	}
	if key == "" {
		if key, err = v.vmKeyPath(); err != nil {
			return nil, err
		}
	}
	return guest.Dial(ctx, guest.Target{Address: machine.Address, User: machine.User, KeyPath: key, HostKey: machine.HostKey})
}
