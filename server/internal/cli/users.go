package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/issuer"
)

const maxPasswordInput = 4096

// usersOptions is what all of "users" share.
type usersOptions struct {
	dataDir string
	output  string
	name    string
	full    string
	roles   []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

func newUsersCmd() *cobra.Command {
	var opts usersOptions
	cmd := &cobra.Command{
		Use:   "users",
		Short: "Add, list and remove the people who may sign in",
		Long: `Add, list and remove the people who may sign in at the server's own issuer. Run
it as the user that runs the server; it works while the server runs.
Passwords are asked for on a terminal, and read from stdin otherwise.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&opts.dataDir, "data-dir", "", "`directory` of the server's state (default $XDG_DATA_HOME/fleet-server)")

	add := usersCmd(&opts, "add NAME", "Add a person", `  fleet-server users add alice --role fleet-operator
  fleet-server users add ci --role fleet-viewer < password-file`, usersAdd)
	add.Flags().StringArrayVar(&opts.roles, "role", nil, "`role` of the person: fleet-admin, fleet-operator or fleet-viewer (repeatable)")
	add.Flags().StringVar(&opts.full, "full-name", "", "`name` to greet the person by")
	passwd := usersCmd(&opts, "passwd NAME", "Replace a person's password and end all sessions", "  fleet-server users passwd admin", usersPasswd)
	remove := usersCmd(&opts, "delete NAME", "Remove a person and end all sessions", "  fleet-server users delete alice", usersDelete)
	list := usersCmd(&opts, "list", "List people and their roles", "  fleet-server users list -o json", usersList)
	addOutputFlag(list, &opts.output)
	cmd.AddCommand(add, list, passwd, remove)
	return cmd
}

// usersCmd makes a subcommand; a NAME in its usage is its one argument.
func usersCmd(opts *usersOptions, use, short, example string, run func(context.Context, *usersOptions, *issuer.People) error) *cobra.Command {
	args := noArgs
	if strings.Contains(use, "NAME") {
		args = func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return usageError(err, "usage: "+cmd.UseLine())
			}
			opts.name = args[0]
			return nil
		}
	}
	return &cobra.Command{
		Use: use, Short: short, Example: example, Args: args,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			opts.stdin, opts.stdout, opts.stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			dir := opts.dataDir
			if dir == "" {
				if dir, err = defaultDataDir(); err != nil {
					return err
				}
			}
			people, err := issuer.OpenPeople(cmd.Context(), filepath.Join(dir, "issuer"))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, people.Close()) }()
			return run(cmd.Context(), opts, people)
		},
	}
}

func usersAdd(ctx context.Context, opts *usersOptions, people *issuer.People) error {
	password, err := readPassword(opts)
	if err != nil {
		return err
	}
	_, err = people.Add(ctx, issuer.NewPerson{Username: opts.name, Name: opts.full, Password: password, Roles: opts.roles})
	return err
}

func usersPasswd(ctx context.Context, opts *usersOptions, people *issuer.People) error {
	password, err := readPassword(opts)
	if err != nil {
		return err
	}
	return people.SetPassword(ctx, opts.name, password)
}

func usersDelete(ctx context.Context, opts *usersOptions, people *issuer.People) error {
	return people.Delete(ctx, opts.name)
}

func usersList(ctx context.Context, opts *usersOptions, people *issuer.People) error {
	users, err := people.List(ctx)
	if err != nil {
		return err
	}
	if opts.output == outputJSON {
		return json.NewEncoder(opts.stdout).Encode(struct {
			SchemaVersion int             `json:"schemaVersion"`
			Users         []issuer.Person `json:"users"`
		}{1, users})
	}
	w := tabwriter.NewWriter(opts.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tROLES\tCREATED\tFULL NAME") // tabwriter keeps errors for Flush
	for _, u := range users {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", u.Username, strings.Join(u.Roles, ","), u.Created.Format(time.DateOnly), u.Name)
	}
	return w.Flush()
}

// readPassword asks twice on a terminal, and takes the first line of stdin else.
func readPassword(opts *usersOptions) (string, error) {
	file, ok := opts.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(opts.stdin, maxPasswordInput)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read password from stdin: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	var answers [2]string
	for i, question := range []string{"Password of " + opts.name + ": ", "The same again: "} {
		_, _ = fmt.Fprint(opts.stderr, question)
		answer, err := term.ReadPassword(int(file.Fd()))
		_, _ = fmt.Fprintln(opts.stderr)
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		answers[i] = string(answer)
	}
	if answers[0] != answers[1] {
		return "", hint.WithCode(hint.New("the two passwords differ", "try again"), hint.CodeUsage)
	}
	return answers[0], nil
}
