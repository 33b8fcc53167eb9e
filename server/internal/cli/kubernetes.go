package cli

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/secretfile"
	"github.com/nationtech/fleetctl/operator/crd"
	"github.com/nationtech/fleetctl/server/kubeapi"
)

// newKubernetesCmd is for tests and for trying the parts by hand: the Kubernetes
// API of "all" without the rest.
func newKubernetesCmd() *cobra.Command {
	var dir, listen, auditLog string
	cmd := &cobra.Command{
		Use:    "kubernetes",
		Short:  "Run the Kubernetes API alone, with the fleet's custom resources",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := secretfile.EnsureDir(dir); err != nil {
				return err
			}
			ca, err := pki.Open(filepath.Join(dir, "pki"))
			if err != nil {
				return err
			}
			cert, err := ca.ServerCert("kubernetes", []string{"localhost", "127.0.0.1"})
			if err != nil {
				return err
			}
			listener, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			server, err := kubeapi.Start(ctx, kubeapi.Config{
				DataDir: filepath.Join(dir, "kube"), Listener: listener, URL: "https://" + listener.Addr().String(),
				CertFile: cert.CertFile, KeyFile: cert.KeyFile, CAPEM: ca.PEM(), AuditLog: auditLog,
				Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})),
			})
			if err != nil {
				return err
			}
			defer func() { _ = server.Stop(cmd.Context()) }()
			if err := crd.Install(ctx, server.RESTConfig()); err != nil {
				return err
			}
			if err := json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"kubeconfig": server.KubeconfigPath()}); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-server.Done():
				return server.Err()
			}
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "`directory` of its state")
	cmd.Flags().StringVar(&auditLog, "audit-log", "", "`file` that gets a line for each request")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`address` to listen on")
	return cmd
}
