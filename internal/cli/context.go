package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/identity/session"
	"github.com/nationtech/fleetctl/internal/identity/trust"
	"github.com/nationtech/fleetctl/internal/kubeconfig"
)

// contextView is a context as commands print it.
type contextView struct {
	Name          string `json:"name"`
	Current       bool   `json:"current"`
	Server        string `json:"server,omitempty"`
	Issuer        string `json:"issuer"`
	ClientID      string `json:"clientId"`
	ProjectID     string `json:"projectId,omitempty"`
	KubernetesURL string `json:"kubernetesURL,omitempty"`
	Kubeconfig    string `json:"kubeconfig,omitempty"`
	KubeContext   string `json:"kubeContext,omitempty"`
	CAFingerprint string `json:"caFingerprint,omitempty"` // SHA-256; "" for the system's authorities alone
	User          string `json:"user,omitempty"`          // "" when nobody is signed in
}

func newContextCmd(f *Factory) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "context",
		Short: "List, choose, show and delete control planes that were signed in to",
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List contexts", Example: "  fleetctl context list", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return runContextList(f) }},
		&cobra.Command{Use: "use NAME", Short: "Choose the context that commands are for", Example: "  fleetctl context use home",
			Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeContexts,
			RunE: func(cmd *cobra.Command, args []string) error { return runContextUse(cmd.Context(), f, args[0]) }},
		&cobra.Command{Use: "show [NAME]", Short: "Show a context, the current one by default", Example: "  fleetctl context show",
			Args: cobra.MaximumNArgs(1), ValidArgsFunction: f.completeContexts,
			RunE: func(_ *cobra.Command, args []string) error { return runContextShow(f, args) }},
		newContextDeleteCmd(f),
	)
	return cmd
}

func newContextDeleteCmd(f *Factory) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "End a context's session and forget it, in the kubeconfig too",
		Long: `End a context's session and forget it. What fleetctl login wrote for it into the
kubeconfig is removed as well; nothing else there is touched.`,
		Example: "  fleetctl context delete home --yes",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: f.completeContexts,
		RunE: func(cmd *cobra.Command, args []string) error { return runContextDelete(cmd.Context(), f, args[0], yes) },
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// contexts reads them, and the store that they are in.
func (f *Factory) contexts() (session.Store, session.Contexts, error) {
	store, err := f.Sessions()
	if err != nil {
		return store, session.Contexts{}, err
	}
	all, err := store.Contexts()
	return store, all, err
}

func viewOf(store session.Store, all session.Contexts, name string) contextView {
	c := all.Contexts[name]
	v := contextView{Name: name, Current: name == all.Current, Server: c.Server, Issuer: c.Issuer, ClientID: c.ClientID,
		ProjectID: c.ProjectID, KubernetesURL: c.KubernetesURL, Kubeconfig: c.Kubeconfig, KubeContext: c.KubeContext}
	if authority, err := trust.Read([]byte(c.CAPEM)); err == nil {
		v.CAFingerprint = authority.Fingerprint
	}
	if s, err := store.Session(name); err == nil {
		v.User = s.User.Username
		if v.User == "" {
			v.User = s.User.Greeting()
		}
	}
	return v
}

func runContextList(f *Factory) error {
	store, all, err := f.contexts()
	if err != nil {
		return err
	}
	views := []contextView{}
	for _, name := range all.Names() {
		views = append(views, viewOf(store, all, name))
	}
	list := struct {
		SchemaVersion int           `json:"schemaVersion"`
		Current       string        `json:"current,omitempty"`
		Contexts      []contextView `json:"contexts"`
	}{1, all.Current, views}
	return f.Print(list, func(w io.Writer) error {
		if len(views) == 0 {
			fmt.Fprintln(f.Err, "no contexts; make one with: fleetctl login --server URL")
			return nil
		}
		var rows [][]string
		for _, v := range views {
			mark := " "
			if v.Current {
				mark = "*"
			}
			rows = append(rows, []string{mark + " " + v.Name, v.Server, v.Issuer, v.User})
		}
		return table(w, []string{"  NAME", "SERVER", "ISSUER", "SIGNED IN AS"}, rows)
	})
}

func runContextUse(ctx context.Context, f *Factory, name string) error {
	store, err := f.Sessions()
	if err != nil {
		return err
	}
	if err := store.Change(ctx, func(all *session.Contexts) error {
		if _, err := all.Get(name); err != nil {
			return err
		}
		all.Current = name
		return nil
	}); err != nil {
		return err
	}
	return runContextShow(f, []string{name})
}

func runContextShow(f *Factory, args []string) error {
	store, all, err := f.contexts()
	if err != nil {
		return err
	}
	name := all.Current
	if chosen, err := f.chosenContext(); err != nil {
		return err
	} else if chosen != "" {
		name = chosen
	}
	if len(args) > 0 {
		name = args[0]
	}
	if name == "" {
		return usageError(errors.New("there is no current context"), "choose one with: fleetctl context use NAME, or make one with: fleetctl login --server URL")
	}
	if _, err := all.Get(name); err != nil {
		return err
	}
	v := viewOf(store, all, name)
	return f.Print(struct {
		SchemaVersion int `json:"schemaVersion"`
		contextView
	}{1, v}, func(w io.Writer) error {
		title := v.Name
		if v.Current {
			title += " (current)"
		}
		section(w, "", [][2]string{{"Context", title}, {"Server", v.Server}, {"Issuer", v.Issuer}, {"Client id", v.ClientID}, {"Project", v.ProjectID},
			{"Kubernetes", v.KubernetesURL}, {"Kubeconfig", v.Kubeconfig}, {"Its context", v.KubeContext}, {"CA (SHA-256)", v.CAFingerprint}, {"Signed in as", v.User}})
		return nil
	})
}

func runContextDelete(ctx context.Context, f *Factory, name string, yes bool) error {
	store, all, err := f.contexts()
	if err != nil {
		return err
	}
	c, err := all.Get(name)
	if err != nil {
		return err
	}
	if !yes {
		if err := f.Confirm(ctx, "Sign out of context "+name+" and forget it?", "--yes"); err != nil {
			return err
		}
	}
	if _, err := f.signOut(ctx, name, c); err != nil {
		fmt.Fprintln(f.Err, "warning:", err) // it is forgotten all the same
	}
	if c.Kubeconfig != "" {
		if err := kubeconfig.Remove(ctx, c.Kubeconfig, c.KubeContext); err != nil {
			return err
		}
	}
	if err := store.Change(ctx, func(all *session.Contexts) error {
		delete(all.Contexts, name)
		if all.Current == name {
			all.Current = ""
		}
		return nil
	}); err != nil {
		return err
	}
	return f.Print(struct {
		SchemaVersion int    `json:"schemaVersion"`
		Deleted       string `json:"deleted"`
	}{1, name}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, "context "+name+" is gone")
		return err
	})
}
