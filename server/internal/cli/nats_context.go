package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/callout"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/server/internal/parts"
)

// natsContext is a context file of the nats program, as far as we fill it in.
type natsContext struct {
	Description string `json:"description"`
	URL         string `json:"url"`
	Token       string `json:"token"`
	CA          string `json:"ca,omitempty"`
	InboxPrefix string `json:"inbox_prefix"`
}

func newNATSContextCmd() *cobra.Command {
	var dir, ca string
	var urls []string
	var lifetime time.Duration
	cmd := &cobra.Command{
		Use:   "nats-context",
		Short: "Print a short-lived, read-only NATS login for looking at the buckets by hand",
		Long: `Prints a context for the nats program that may read every bucket, and nothing
else, until it expires. It needs the callout's keys, and neither the issuer nor the
Kubernetes API: it is for when those do not work. The callout has to run.`,
		Example: `  kubectl exec deployment/fleet-callout -- /usr/local/bin/fleet-server nats-context --keys-dir /etc/fleet/keys \
      --nats-url tls://nats:4222 > ~/.config/nats/context/fleet.json
  nats --context fleet request '$JS.API.DIRECT.GET.KV_device-state.$KV.device-state.state.pi-1' ''`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := filepath.Join(dir, parts.KeyIssuer+".nk")
			seed, err := os.ReadFile(path)
			if err != nil {
				return hint.Wrap(fmt.Errorf("read the callout's key: %w", err), "run it where the callout runs: kubectl exec deployment/fleet-callout -- …")
			}
			key, err := nkeys.FromSeed(seed)
			if err != nil {
				return fmt.Errorf("read the callout's key %s: %w", path, err)
			}
			token, err := callout.Visitor(key, lifetime, time.Now())
			if err != nil {
				return usageError(err, "give --lifetime between 1s and "+callout.MaxVisit.String())
			}
			encoder := json.NewEncoder(cmd.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(natsContext{Description: "fleet, read only, until " + time.Now().Add(lifetime).Format(time.RFC3339),
				URL: strings.Join(urls, ","), Token: token, CA: ca, InboxPrefix: accounts.Inbox(accounts.RoleViewer)})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "keys-dir", "/etc/fleet/keys", "`directory` of the callout's keys")
	flags.StringSliceVar(&urls, "nats-url", []string{"tls://nats:4222"}, "`URL` of a NATS server, as it is reached from where the context is used (repeatable)")
	flags.StringVar(&ca, "ca", "", "`file` of the authorities of the servers' certificates, there")
	flags.DurationVar(&lifetime, "lifetime", 15*time.Minute, "`time` that it is good for")
	return cmd
}
