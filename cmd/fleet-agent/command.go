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
  fleet-agent keygen [--rotate | --show]     make this device's keys, print their public halves; onboarding runs this
  fleet-agent bind-key --user-id ID --key-id ID
                                             use the key that keygen made, under the names the issuer gave it
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
	var keys keyOptions
	switch name {
	case "run", "check-config":
		flags.StringVar(&path, "config", config.DefaultPath, "configuration file")
	case "keygen":
		keys.register(flags)
		flags.BoolVar(&keys.rotate, "rotate", false, "make an identity key to replace the one in use")
		flags.BoolVar(&keys.show, "show", false, "make nothing")
	case "bind-key":
		keys.register(flags)
		flags.StringVar(&keys.userID, "user-id", "", "the issuer's id of this device's user")
		flags.StringVar(&keys.keyID, "key-id", "", "the issuer's id of the key")
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
	case "keygen":
		return keygen(keys, stdout)
	case "bind-key":
		return bindKey(keys, stdout)
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
