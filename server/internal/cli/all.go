package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/server/internal/allinone"
	"github.com/nationtech/fleetctl/server/internal/logging"
	"github.com/nationtech/fleetctl/server/internal/memory"
)

type allOptions struct {
	allinone.Config
	output  string
	verbose bool
	stdout  io.Writer
	stderr  io.Writer
}

func newAllCmd(version string) *cobra.Command {
	opts := allOptions{Config: allinone.Config{Version: version}}
	cmd := &cobra.Command{
		Use:   "all",
		Short: "Run the whole control plane in this process",
		Long: `Run the whole control plane in this process: issuer, Kubernetes API, NATS, operator
and HTTPS API, each with TLS from a CA that the first start makes. All state is in
--data-dir, which one fleet-server at a time can use; ports are chosen at the
first start and kept. Where everything is found is printed, and written to
endpoints.json in the data directory.

The first start makes the user "admin" and writes its password to
issuer/admin-password in the data directory, readable by you alone; on a
terminal it is printed too, that once. "fleet-server users passwd admin" changes
it and removes the file.`,
		Example: `  fleet-server all
  export KUBECONFIG=~/.local/share/fleet-server/kube/admin.kubeconfig
  fleet-server all --listen-address 0.0.0.0 --advertise fleet.example.com`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts.stdout, opts.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return runAll(cmd.Context(), opts)
		},
	}
	addOutputFlag(cmd, &opts.output)
	flags := cmd.Flags()
	flags.StringVar(&opts.DataDir, "data-dir", "", "`directory` of all state (default $XDG_DATA_HOME/fleet-server)")
	flags.StringVar(&opts.ListenAddress, "listen-address", "127.0.0.1", "`address` to listen on; 0.0.0.0 for all")
	flags.StringArrayVar(&opts.Advertise, "advertise", nil, "host `name` or address that clients use; the first one goes into URLs (repeatable)")
	flags.IntVar(&opts.KubePort, "kube-port", 0, "`port` of the Kubernetes API (default: the last one used, at first 6443 or a free one after it)")
	flags.IntVar(&opts.NATSPort, "nats-port", 0, "`port` of NATS (default: the last one used, at first 4222 or a free one after it)")
	flags.IntVar(&opts.APIPort, "api-port", 0, "`port` of the HTTPS API (default: the last one used, at first 7443 or a free one after it)")
	flags.IntVar(&opts.IssuerPort, "issuer-port", 0, "`port` of the OpenID Connect issuer (default: the last one used, at first 8443 or a free one after it)")
	flags.DurationVar(&opts.StartTimeout, "start-timeout", time.Minute, "`time` until a start that is not ready is given up")
	flags.BoolVar(&opts.AllowPSK, "allow-psk", false, "let devices log in with a pre-shared key too, for laboratories; tokens of the issuer are always taken")
	flags.BoolVarP(&opts.verbose, "verbose", "v", false, "log details to stderr; the log file always has them")
	return cmd
}

func runAll(ctx context.Context, opts allOptions) error {
	begin := time.Now()
	if opts.DataDir == "" {
		dir, err := defaultDataDir()
		if err != nil {
			return err
		}
		opts.DataDir = dir
	}
	if err := opts.Validate(); err != nil {
		return err
	}
	level := slog.LevelInfo
	if opts.verbose {
		level = slog.LevelDebug
	}
	logs := filepath.Join(opts.DataDir, "log")
	for _, dir := range []string{opts.DataDir, logs} {
		if err := secretfile.EnsureDir(dir); err != nil {
			return err
		}
	}
	opts.Log = logging.Open(logs, opts.stderr, level)
	defer func() { _ = opts.Log.Close() }()
	// Libraries that log for themselves, such as the issuer's, do so here.
	slog.SetDefault(opts.Log.With("component", "library"))

	// Kubernetes' API server tells systemd that it is ready by itself, long
	// before the rest of us is; it must not find whom to tell.
	notify := os.Getenv("NOTIFY_SOCKET")
	if err := os.Unsetenv("NOTIFY_SOCKET"); err != nil {
		return fmt.Errorf("keep systemd's socket from the API server: %w", err)
	}

	if os.Getenv("GOMEMLIMIT") == "" { // who sets it, or GOGC, decides himself
		go memory.Keep(ctx, os.Getenv("GOGC") == "")
	}
	return allinone.Run(ctx, opts.Config, func(e allinone.Endpoints) error {
		opts.Log.Info("ready", "took", time.Since(begin).Round(time.Millisecond))
		if err := printEndpoints(opts, e); err != nil {
			return fmt.Errorf("print where the server is: %w", err)
		}
		return tellReady(notify)
	})
}

// tellReady sends READY=1 (sd_notify(3)) to the socket that systemd gave us;
// without one it does nothing.
func tellReady(socket string) error {
	if socket == "" {
		return nil
	}
	if err := os.Setenv("NOTIFY_SOCKET", socket); err != nil {
		return fmt.Errorf("restore systemd's socket: %w", err)
	}
	if _, err := daemon.SdNotify(true, daemon.SdNotifyReady); err != nil {
		return fmt.Errorf("tell systemd that we are ready: %w", err)
	}
	return nil
}

func printEndpoints(opts allOptions, e allinone.Endpoints) error {
	if opts.output == outputJSON {
		return json.NewEncoder(opts.stdout).Encode(e)
	}
	w := tabwriter.NewWriter(opts.stdout, 0, 0, 2, ' ', 0)
	rows := [][2]string{
		{"kubeconfig", e.Kubeconfig},
		{"Kubernetes URL", e.KubernetesURL},
		{"NATS URL", e.NATSURL},
		{"API URL", e.APIURL},
		{"dashboard", e.APIURL + "/"},
		{"CA", e.CAFile},
		{"CA fingerprint", e.CAFingerprint},
		{"admin token", e.AdminTokenFile},
		{"issuer", e.Issuer},
		{"CLI client id", e.CLIClientID},
		{"project id", e.ProjectID},
		{"log", e.LogFile},
	}
	if e.AdminPasswordFile != "" {
		rows = append(rows, [2]string{"password of admin", e.AdminPasswordFile})
	}
	// Into a pipe it would end in somebody's log.
	if file, ok := opts.stdout.(*os.File); ok && e.FirstPassword != "" && term.IsTerminal(int(file.Fd())) {
		rows = append(rows, [2]string{"", e.FirstPassword + "  (shown this once)"})
	}
	for _, row := range rows {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", row[0], row[1]) // tabwriter keeps errors for Flush
	}
	return w.Flush()
}

// defaultDataDir is where fleetctl looks for a server too.
func defaultDataDir() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "fleet-server"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", hint.Wrap(err, "set HOME, or name the directory with --data-dir DIR")
	}
	return filepath.Join(home, ".local", "share", "fleet-server"), nil
}
