// Package cli is the command line of fleetctl: flags, output, questions,
// errors and exit codes, a command a file. What a command does is in the
// packages it calls; nothing here is imported by them.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Main runs fleetctl and returns its exit code. The first SIGINT or SIGTERM
// cancels the command's context, a second one ends the process at once.
func Main(version string, args []string, streams Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRootCmd(&Factory{Streams: streams, Version: version})
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if exit := (*exitError)(nil); errors.As(err, &exit) {
		return exit.code
	}
	if ctx.Err() != nil {
		fmt.Fprintln(streams.Err, "interrupted")
		return hint.CodeInterrupted
	}
	printError(streams.Err, streams.ColorErr(), err)
	if isCobraUsageError(err) {
		return hint.CodeUsage
	}
	return hint.Code(err)
}

// exitError ends fleetctl with another program's exit code and no message of
// our own, as `vm ssh` does.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// printError writes the error, and its hint on a line of its own so that both
// a person and grep find it.
func printError(w io.Writer, color bool, err error) {
	label, tip := "error:", "hint:"
	if color {
		label, tip = "\x1b[31merror:\x1b[0m", "\x1b[36mhint:\x1b[0m"
	}
	fmt.Fprintf(w, "%s %s\n", label, err)
	if next := hint.Of(err); next != "" {
		fmt.Fprintf(w, "%s %s\n", tip, next)
	}
}

// isCobraUsageError recognises the one usage error that cobra gives no hook
// for.
func isCobraUsageError(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command ")
}
