package systemtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
)

// TestChartThatFails installs a chart that the API refuses, and upgrades to one:
// what ran before runs again, and the next run ends well.
func TestChartThatFails(t *testing.T) {
	config := startAPIServer(t)
	client, shell := controllerClient(t, config), newOperatorsShell(t, config)
	const namespace = "fleet-system"
	refused := []string{"serviceName: {{ $name }}-headless", "serviceName: Not_A_Name"}
	install := func(chart string, more ...string) []string {
		return append([]string{"install", "--domain", "fleet.invalid", "--issuer", "https://sso.invalid", "--project-id", "1234", "--with-nats",
			"--no-wait", "--yes", "--chart-dir", chart}, more...)
	}
	good := natsChart(t, "2.12.3")
	shell.want(t, 1, []string{"install chart nats 2.12.3", "StatefulSet", "what was made of it stays", "run the same command again"}, install(natsChart(t, "2.12.3", refused...))...)
	shell.want(t, 0, []string{"update Release fleet-system/nats\n- status: failed", "updated Release"}, install(good)...)
	settled(t, shell, install(good))

	conf := func() string {
		m := &corev1.ConfigMap{}
		if err := client.Get(t.Context(), ctrl.ObjectKey{Namespace: namespace, Name: "nats-config"}, m); err != nil {
			t.Fatal(err)
		}
		return m.Data["nats.conf"]
	}
	before := conf()
	newer := []string{"server_name: $POD_NAME", "server_name: $POD_NAME # newer"}
	shell.want(t, 1, []string{"upgrade release nats to chart nats 2.99.0", "it was rolled back to revision 2", "what runs is what ran before"},
		install(natsChart(t, "2.99.0", append(newer, refused...)...), "--nats-chart-version", "2.99.0")...)
	if conf() != before {
		t.Error("an upgrade that was refused left its configuration")
	}
	if r := shell.want(t, 3, []string{"update ConfigMap fleet-system/fleet-install"}, append(install(good), "--plan")...); strings.Contains(r.stderr, "Release") {
		t.Errorf("more than the wish has to be taken back:\n%s", r.stderr)
	}
	shell.want(t, 0, nil, install(good)...)
	settled(t, shell, install(good))
	next := install(natsChart(t, "2.99.0", newer...), "--nats-chart-version", "2.99.0")
	shell.want(t, 0, []string{"updated Release"}, next...)
	if !strings.Contains(conf(), "# newer") {
		t.Error("the upgrade did not change the configuration")
	}
	settled(t, shell, next)
}

// TestChartInterrupted kills fleetctl, and what it runs for charts, while a chart's
// hook is under way. The next run says so, takes over and ends well; where it does
// not, what ran before is there.
func TestChartInterrupted(t *testing.T) {
	config := startAPIServer(t)
	client := controllerClient(t, config)
	for _, tt := range []struct {
		name  string
		hook  string
		first string // the version that is there before; "": none
		kill  func(t *testing.T, fleetctl, helm *os.Process)
		plan  string // what the next run has to do
		back  string // what becomes of one that is refused
	}{
		{"install, both killed", "pre-install", "", killBoth, "- status: pending-install", "nothing to go back to"},
		{"upgrade, both killed", "pre-upgrade", "2.12.3", killBoth, "- status: pending-upgrade", "it was rolled back to revision 1"},
		// What does charts hears of it, and goes back by itself.
		{"upgrade, fleetctl killed", "pre-upgrade", "2.12.3", func(t *testing.T, fleetctl, _ *os.Process) { kill(t, fleetctl) },
			"- chart: nats 2.12.3\n+ chart: nats 2.99.0", "it was rolled back to revision 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			shell := newOperatorsShell(t, config)
			namespace := strings.ReplaceAll(strings.ReplaceAll(tt.name, ", ", "-"), " ", "-")
			install := func(chart string) []string {
				return []string{"install", "-n", namespace, "--domain", "fleet.invalid", "--issuer", "https://sso.invalid", "--project-id", "1234", "--with-nats",
					"--no-wait", "--yes", "--chart-dir", chart, "--nats-chart-version", "2.99.0"}
			}
			if tt.first != "" {
				shell.want(t, 0, nil, append(install(natsChart(t, tt.first)), "--nats-chart-version", tt.first)...)
			}
			waiting := natsChart(t, "2.99.0")
			hook := "apiVersion: batch/v1\nkind: Job\nmetadata: {name: wait, annotations: {helm.sh/hook: " + tt.hook + "}}\n" +
				"spec: {template: {spec: {restartPolicy: Never, containers: [{name: wait, image: wait}]}}}\n"
			if err := os.WriteFile(filepath.Join(waiting, "nats", "templates", "hook.yaml"), []byte(hook), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := shell.command(t.Context(), install(waiting)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the hook to be there", func(ctx context.Context) (bool, error) {
				err := client.Get(ctx, ctrl.ObjectKey{Namespace: namespace, Name: "wait"}, &batchv1.Job{})
				return err == nil, ctrl.IgnoreNotFound(err)
			})
			helm := onlyChild(t, cmd.Process.Pid)
			tt.kill(t, cmd.Process, helm)
			_ = cmd.Wait() // as it was killed
			eventually(t, "what does charts to end", func(context.Context) (bool, error) { return gone(helm.Pid) })

			good, refused := natsChart(t, "2.99.0"), natsChart(t, "2.99.0", "kind: StatefulSet", "kind: Nonsense")
			shell.want(t, 3, []string{"update Release " + namespace + "/nats\n" + tt.plan}, append(install(good), "--plan")...)
			shell.want(t, 1, []string{"upgrade release nats to chart nats 2.99.0", tt.back}, install(refused)...)
			shell.want(t, 0, []string{"updated Release"}, install(good)...)
			settled(t, shell, install(good))
		})
	}
}

// settled wants a run to have nothing to do.
func settled(t *testing.T, shell operatorsShell, install []string) {
	t.Helper()
	if r := shell.want(t, 0, nil, append(install, "--plan")...); r.stdout+r.stderr != "" {
		t.Errorf("another run would change\n%s", r.stderr)
	}
}

// natsChart is a directory with NATS' stand-in in a version, and with something
// else in its templates: pairs of old and new.
func natsChart(t *testing.T, version string, replace ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "charts"))); err != nil {
		t.Fatal(err)
	}
	for path, with := range map[string][]string{"Chart.yaml": {"\nversion: 2.12.3\n", "\nversion: " + version + "\n"}, "templates/nats.yaml": replace} {
		path = filepath.Join(dir, "nats", path)
		if err := os.WriteFile(path, []byte(strings.NewReplacer(with...).Replace(read(t, path))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func kill(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
}

// killBoth takes the one first that could still write down how it ended.
func killBoth(t *testing.T, fleetctl, helm *os.Process) {
	t.Helper()
	kill(t, helm)
	kill(t, fleetctl)
}

// onlyChild is the one process that another has started.
func onlyChild(t *testing.T, pid int) *os.Process {
	t.Helper()
	out, err := exec.Command("pgrep", "-P", fmt.Sprint(pid)).Output()
	var child int
	if _, scanned := fmt.Sscan(string(out), &child); err != nil || scanned != nil {
		t.Fatalf("the children of %d: %q, %v", pid, out, err)
	}
	p, err := os.FindProcess(child)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// gone says whether a process has ended; one that nobody waited for has.
func gone(pid int) (bool, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true, nil
	}
	return err == nil && strings.Contains(string(stat), ") Z "), err
}
