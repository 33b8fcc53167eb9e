package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/nationtech/fleetctl/agent/inventory"
	"github.com/nationtech/fleetctl/agent/join"
	"github.com/nationtech/fleetctl/internal/hint"
	protocol "github.com/nationtech/fleetctl/internal/join"
	"github.com/nationtech/fleetctl/internal/wire"
)

// joinOptions are of the subcommand with which a device asks to join.
type joinOptions struct {
	keyOptions
	server, fingerprint, caFile string
	deviceID                    string
	labels                      labels
	noStart                     bool
}

func (o *joinOptions) register(flags *flag.FlagSet) {
	o.keyOptions.register(flags)
	flags.StringVar(&o.server, "server", "", "URL of fleet-server's HTTPS API")
	flags.StringVar(&o.fingerprint, "ca-fingerprint", "", "SHA-256 fingerprint of the server's authority")
	flags.StringVar(&o.caFile, "ca-file", "", "file with the server's authority")
	flags.StringVar(&o.deviceID, "device-id", "", "id of the device (default: the host's name)")
	flags.Var(&o.labels, "label", "label of the device, KEY=VALUE; repeatable")
	flags.BoolVar(&o.noStart, "no-start", false, "do not start the agent once approved")
}

func joinAction(flags *flag.FlagSet) action {
	var o joinOptions
	o.register(flags)
	return func(stdout, stderr io.Writer) error {
		ctx, stop := interruptible()
		defer stop()
		return runJoin(ctx, o, stdout, stderr)
	}
}

// labels is a flag that can be repeated.
type labels map[string]string

func (l *labels) String() string { return "" }

func (l *labels) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("is not KEY=VALUE")
	}
	if *l == nil {
		*l = labels{}
	}
	(*l)[key] = value
	return wire.ValidateLabels(*l)
}

// unit is the agent's, where onboarding or a package put it.
const unit = "fleet-agent.service"

// issueFile is shown by agetty(8) above the login prompt of the device's screen.
const issueFile = "/run/issue.d/fleet-agent.issue"

func runJoin(ctx context.Context, o joinOptions, stdout, stderr io.Writer) error {
	if o.server == "" {
		return usageError("--server is missing")
	}
	cfg := join.Config{Server: strings.TrimSuffix(o.server, "/"), Fingerprint: o.fingerprint, Labels: o.labels, DeviceID: o.deviceID,
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{ReplaceAttr: dropTime}))}
	var err error
	if cfg.DeviceID == "" {
		if cfg.DeviceID, err = os.Hostname(); err != nil {
			return err
		}
	}
	if err := wire.ValidateDeviceID(cfg.DeviceID); err != nil {
		return hint.WithCode(hint.Wrap(err, "choose an id with --device-id"), hint.CodeUsage)
	}
	if cfg.MachineID, err = machineName(); err != nil {
		return err
	}
	if o.caFile != "" {
		if cfg.CAPEM, err = os.ReadFile(o.caFile); err != nil {
			return fmt.Errorf("read the server's authority: %w", err)
		}
	}
	if cfg.Keys, err = o.store(); err != nil {
		return err
	}
	facts := inventory.Collect("/", o.dir)
	cfg.Facts = protocol.Facts{Hostname: facts.Hostname, Architecture: facts.Architecture, OS: facts.OS, Model: facts.Model, AgentVersion: version}
	cfg.Show = func(n join.Notice) {
		_ = n.Write(stdout)
		showOnScreen(n)
	}
	defer os.Remove(issueFile)
	if err := join.Run(ctx, cfg); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "approved: this is device %s now\n", cfg.DeviceID)
	if o.noStart || os.Getuid() != 0 {
		return nil
	}
	return startAgent(ctx, cfg.DeviceID, stdout)
}

// showOnScreen does what it can: a device may have no screen.
func showOnScreen(n join.Notice) {
	var text strings.Builder
	if n.Write(&text) != nil || os.MkdirAll(filepath.Dir(issueFile), 0o755) != nil {
		return
	}
	_ = os.WriteFile(issueFile, []byte(text.String()), 0o644)
}

// startAgent lets systemd run the agent from now on. A machine without the agent's
// unit is completed by onboarding, which finds the identity and keeps it.
func startAgent(ctx context.Context, device string, stdout io.Writer) error {
	if exec.CommandContext(ctx, "systemctl", "cat", unit).Run() != nil {
		fmt.Fprintln(stdout, "the agent is not installed as a service yet; complete it with: fleetctl onboard HOST --device-id "+device)
		return nil
	}
	if out, err := exec.CommandContext(ctx, "systemctl", "enable", "--now", unit).CombinedOutput(); err != nil {
		return fmt.Errorf("start %s: %w: %s", unit, err, strings.TrimSpace(string(out)))
	}
	return nil
}
