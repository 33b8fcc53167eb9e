package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientauthentication "k8s.io/client-go/pkg/apis/clientauthentication/v1"
)

// tokenMargin is how long before its end kubectl is told to ask again.
const tokenMargin = 10 * time.Second

func newTokenCmd(f *Factory) *cobra.Command {
	var plain bool
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print the session's token, as kubectl wants it",
		Long: `Print the session's token, as kubectl wants it from a credential plugin
(client.authentication.k8s.io/v1). fleetctl login writes a kubeconfig context that
calls this. A token that is about to expire is renewed first.

Whoever has the token can do what you may do, until it expires.`,
		Example: "  fleetctl token --context home\n  curl -H \"Authorization: Bearer $(fleetctl token --plain)\" …",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runToken(cmd.Context(), f, plain) },
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "print the token and nothing else")
	return cmd
}

func runToken(ctx context.Context, f *Factory, plain bool) error {
	s, _, err := f.Session(ctx)
	if err != nil {
		return err
	}
	if plain {
		_, err := f.Out.Write([]byte(string(s.Bearer) + "\n"))
		return err
	}
	// Whatever --output says: kubectl reads JSON.
	return json.NewEncoder(f.Out).Encode(clientauthentication.ExecCredential{
		TypeMeta: metav1.TypeMeta{APIVersion: clientauthentication.SchemeGroupVersion.String(), Kind: "ExecCredential"},
		Status: &clientauthentication.ExecCredentialStatus{
			Token:               string(s.Bearer),
			ExpirationTimestamp: &metav1.Time{Time: s.Expiry.Add(-tokenMargin)},
		},
	})
}
