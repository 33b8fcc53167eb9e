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
  fleet-agent version
`

// command runs one subcommand.
func command(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usageError("no subcommand")
	}
	name, args := args[0], args[1:]
	flags := flag.NewFlagSet("fleet-agent "+name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var path string
	if name == "run" || name == "check-config" {
		flags.StringVar(&path, "config", config.DefaultPath, "configuration file")
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		name = "help"
	case err != nil:
		return usageError(err.Error())
	case flags.NArg() > 0 && name != "help":
		return usageError(fmt.Sprintf("unexpected argument %q", flags.Arg(0)))
	}
	switch name {
	case "run":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		c, err := config.Load(path, os.Getuid())
		if err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel, ReplaceAttr: dropTime}))
		return run(ctx, c, log)
	case "check-config":
		c, err := config.Load(path, os.Getuid())
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "%s is valid, for device %s\n", path, c.DeviceID)
		return err
	case "version", "--version":
		_, err := fmt.Fprintf(stdout, "fleet-agent %s %s/%s\n", version, runtime.GOOS, runtime.GOARCH)
		return err
	case "help", "--help", "-h":
		_, err := fmt.Fprint(stdout, usage)
		return err
	}
	return usageError(fmt.Sprintf("unknown subcommand %q", name))
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
