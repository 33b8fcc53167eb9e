package cli

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// TestMain lets the scripts run fleetctl as a program of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"fleetctl": func() { os.Exit(Main("v0.0.0-test", os.Args[1:], SystemStreams())) },
	})
}

// TestScripts types commands as a user would and reads what they print.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			for _, dir := range []string{"config", "cache", "data"} {
				env.Setenv("XDG_"+strings.ToUpper(dir)+"_HOME", env.WorkDir+"/"+dir)
			}
			return playServer(env)
		},
	})
}

// TestEveryCommand: what --help promises is there for each command.
func TestEveryCommand(t *testing.T) {
	root := newRootCmd(&Factory{Streams: Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, Version: "test"})
	walk(root, func(cmd *cobra.Command) {
		t.Run(strings.ReplaceAll(cmd.CommandPath(), " ", "/"), func(t *testing.T) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("short help is %q: one phrase without a full stop is wanted", cmd.Short)
			}
			if cmd.Runnable() && !strings.Contains(cmd.Example, cmd.CommandPath()) {
				t.Errorf("no example of %q", cmd.CommandPath())
			}
			if cmd.Runnable() && cmd.Args == nil {
				t.Error("does not say which arguments it takes")
			}
			if !cmd.Runnable() && !cmd.HasSubCommands() {
				t.Error("does nothing")
			}
		})
	})
}

func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		walk(sub, visit)
	}
}
