package parts

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/nationtech/fleetctl/internal/dashboard"
	"github.com/nationtech/fleetctl/internal/dashboard/session"
	"github.com/nationtech/fleetctl/server/internal/supervise"
)

// preparePages makes the dashboard's pages, which the API's listener serves,
// unless nobody could sign in to them.
func (d *dashboardPart) preparePages(context.Context) (supervise.Part, error) {
	people := &d.cfg.People
	if people.DashboardID == "" {
		return nil, nil
	}
	key, err := readSessionKey(d.cfg.SessionKeyFile)
	if err != nil {
		return nil, err
	}
	config, err := d.restConfig()
	if err != nil {
		return nil, err
	}
	client, err := people.httpClient()
	if err != nil {
		return nil, err
	}
	ids, held, err := people.verifier(people.DashboardID, "")
	if err != nil {
		return nil, err
	}
	log := d.Log.With("component", "dashboard")
	sessions, err := session.NewManager(session.Config{
		Keys: [][]byte{key}, Origins: []string{d.cfg.PublicURL}, Issuer: people.Issuer, ClientID: people.DashboardID,
		// Roles are in a token when they were asked for.
		Scopes: []string{"openid", "profile", "offline_access", "urn:zitadel:iam:org:projects:roles",
			"urn:zitadel:iam:org:project:id:" + people.ProjectID + ":aud"},
		HTTPClient: client, Log: log, Access: d.tokens, ID: ids,
	})
	if err == nil {
		d.pages, err = dashboard.New(dashboard.Config{Kube: config, Sessions: sessions, ServerURL: d.cfg.PublicURL, Version: d.Version, Log: log})
	}
	if err != nil {
		return nil, fmt.Errorf("prepare pages: %w", err)
	}
	return supervise.Loop(func(ctx context.Context) error {
		defer func() { _ = held.Stop(context.WithoutCancel(ctx)) }()
		defer client.CloseIdleConnections()
		return d.pages.Run(ctx)
	}), nil
}

// readSessionKey reads a key in hex, as it is in the Secret.
func readSessionKey(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read session key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != session.KeyBytes {
		return nil, fmt.Errorf("read session key: %s does not hold %d bytes in hex", path, session.KeyBytes)
	}
	return key, nil
}
