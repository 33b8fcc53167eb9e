package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/nationtech/fleetctl/agent/config"
	"github.com/nationtech/fleetctl/internal/hint"
)

const usage = `fleet-agent keeps this device as its fleet wants it to be.

  fleet-agent run [--config FILE]            work until SIGTERM; systemd starts this
  fleet-agent check-config [--config FILE]   say everything that is wrong with the configuration
  fleet-agent join --server URL [--ca-fingerprint SHA256 | --ca-file FILE] [--device-id ID] [--label KEY=VALUE]…
                                             ask to join a fleet, show a code, and wait for an administrator
  fleet-agent keygen [--rotate] [--rotate-sealing] | [--replace-all | --show]
                                             make this device's keys, print their public halves; onboarding runs this
  fleet-agent bind-key --user-id ID --key-id ID | --sealing
                                             use the key that keygen made, under the names the issuer gave it
  fleet-agent version
`

// action does a subcommand's work, after its flags were parsed.
type action func(stdout, stderr io.Writer) error

// subcommands register their flags and say what they do.
var subcommands = map[string]func(*flag.FlagSet) action{
	"run":          runAction,
	"check-config": checkConfigAction,
	"join":         joinAction,
	"keygen":       keygenAction,
	"bind-key":     bindKeyAction,
	"version": func(*flag.FlagSet) action {
		return func(stdout, _ io.Writer) error {
			_, err := fmt.Fprintf(stdout, "fleet-agent %s %s/%s\n", version, runtime.GOOS, runtime.GOARCH)
			return err
		}
	},
}

// command runs one subcommand.
func command(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usageError("no subcommand")
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "--help", "-h":
		return printUsage(stdout)
	case "exec": // of containers, see execWith
		return execWith(args)
	case "--version":
		name = "version"
	}
	setup, ok := subcommands[name]
	if !ok {
		return usageError(fmt.Sprintf("unknown subcommand %q", name))
	}
	flags := flag.NewFlagSet("fleet-agent "+name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	run := setup(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return printUsage(stdout)
	case err != nil:
		return usageError(err.Error())
	case flags.NArg() > 0:
		return usageError(fmt.Sprintf("unexpected argument %q", flags.Arg(0)))
	}
	return run(stdout, stderr)
}

func printUsage(w io.Writer) error {
	_, err := fmt.Fprint(w, usage)
	return err
}

func configFlag(flags *flag.FlagSet) *string {
	return flags.String("config", config.DefaultPath, "configuration file")
}

func runAction(flags *flag.FlagSet) action {
	path := configFlag(flags)
	return func(_, stderr io.Writer) error {
		ctx, stop := interruptible()
		defer stop()
		c, err := config.Load(*path, os.Getuid())
		if err != nil {
			return err
		}
		return run(ctx, c, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel, ReplaceAttr: dropTime})))
	}
}

func checkConfigAction(flags *flag.FlagSet) action {
	path := configFlag(flags)
	return func(stdout, _ io.Writer) error {
		c, err := config.Load(*path, os.Getuid())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "%s is valid, for device %s\n", *path, c.DeviceID)
		return err
	}
}

func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
}

func usageError(text string) error {
	return hint.WithCode(hint.New(text, "fleet-agent help"), hint.CodeUsage)
}

// dropTime leaves the time to the journal, which has its own.
func dropTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
