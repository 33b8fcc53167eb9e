package systemtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/testhost/netns"
)

// fleetctl builds the command and what it runs for charts, once a run. They are
// of the other modules.
var fleetctl = sync.OnceValues(func() (string, error) {
	server, err := binary()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(server), "fleetctl") // removed with it
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=v1.2.3", "-o", path, "./cmd/fleetctl")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fleetctl: %w\n%s", err, out)
	}
	// With the flags of the Makefile: nothing is compiled twice.
	cmd = exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path+"-helm", "./cmd/fleetctl-helm")
	cmd.Dir = filepath.Join("..", "..", "helm")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build fleetctl-helm: %w\n%s", err, out)
	}
	return path, nil
})

// operatorsShell runs fleetctl as a person with a kubeconfig does.
type operatorsShell struct {
	program, kubeconfig, home string
	proxy                     string // that leads to the outside
	network, hosts            string // instead: a network namespace, and its /etc/hosts
}

func newOperatorsShell(t *testing.T, config *rest.Config) operatorsShell {
	t.Helper()
	program, err := fleetctl()
	if err != nil {
		t.Fatal(err)
	}
	s := operatorsShell{program: program, home: t.TempDir(), proxy: "http://127.0.0.1:1"}
	s.kubeconfig = filepath.Join(s.home, "kubeconfig")
	file := clientcmdapi.NewConfig()
	file.Clusters["test"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	file.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	file.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "admin"}
	file.CurrentContext = "test"
	if err := clientcmd.WriteToFile(*file, s.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return s
}

type ran struct {
	code           int
	stdout, stderr string
}

// command is `fleetctl server ARGS`; nobody is there to answer questions.
func (s operatorsShell) command(ctx context.Context, args ...string) *exec.Cmd {
	argv := append([]string{s.program, "server"}, args...)
	if s.network != "" {
		argv = append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, s.hosts}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+s.home, "XDG_CONFIG_HOME="+s.home, "XDG_CACHE_HOME="+s.home, "KUBECONFIG="+s.kubeconfig, "HTTPS_PROXY="+s.proxy)
	return cmd
}

// run gives what a command did.
func (s operatorsShell) run(t *testing.T, args ...string) ran {
	t.Helper()
	cmd := s.command(t.Context(), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	start := cmd.Start
	if s.network != "" {
		start = func() error { return netns.Do(s.network, cmd.Start) }
	}
	err := start()
	if err == nil {
		err = cmd.Wait()
	}
	t.Logf("%5.1f s  fleetctl server %.80s", time.Since(began).Seconds(), strings.Join(args, " "))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want runs a command and wants an exit code, and each of the texts in what it said.
func (s operatorsShell) want(t *testing.T, code int, texts []string, args ...string) ran {
	t.Helper()
	r := s.run(t, args...)
	if r.code != code {
		t.Fatalf("fleetctl server %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("fleetctl server %s: no %q in\n%s%s", strings.Join(args, " "), text, r.stdout, r.stderr)
		}
	}
	return r
}

// TestInstallCommand takes an installation through its life by the built fleetctl
// against a real kube-apiserver, NATS from a chart included. There is no kubelet
// and there are no controllers: that pods are ready is played by writing their
// status, and the public URLs lead nowhere.
func TestInstallCommand(t *testing.T) {
	config := startAPIServer(t)
	client := controllerClient(t, config)
	shell := newOperatorsShell(t, config)
	const namespace = "fleet-system"
	charts, err := filepath.Abs(filepath.Join("testdata", "charts"))
	if err != nil {
		t.Fatal(err)
	}
	choices := []string{"--domain", "fleet.invalid", "--issuer", "https://sso.invalid", "--project-id", "1234", "--with-nats"}
	install := func(more ...string) []string { return append(append([]string{"install"}, choices...), more...) }

	// Without a chart nothing is begun.
	shell.want(t, 1, []string{"fetch chart nats 2.12.3", "helm pull nats --repo", "--chart-dir"}, install("--no-wait")...)
	shell.want(t, 1, []string{"there is no chart nats in"}, install("--no-wait", "--chart-dir", t.TempDir())...)
	other := otherVersion(t, charts)
	shell.want(t, 1, []string{"is version 2.99.0, and 2.12.3 is expected", "--nats-chart-version 2.99.0"}, install("--no-wait", "--chart-dir", other)...)
	if err := client.Get(t.Context(), ctrl.ObjectKey{Name: namespace}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
		t.Fatalf("an installation that could not be done made its namespace: %v", err)
	}

	shell.want(t, 3, []string{"create Release fleet-system/nats", "objects would change"}, install("--plan", "--chart-dir", charts)...)
	stuck := shell.want(t, 1, []string{"nats has 0/3 pods: no pod yet", "fleet-operator has 0/2 pods: no pod yet"}, install("--timeout", "2s", "--chart-dir", charts)...)
	if secret, release, operator := strings.Index(stuck.stderr, "created Secret"), strings.Index(stuck.stderr, "created Release"), strings.Index(stuck.stderr, "created Deployment"); secret < 0 || release < secret || operator < release {
		t.Errorf("Secrets, NATS and the parts are not made in that order:\n%s", stuck.stderr)
	}
	nats := statefulSet(t, client, namespace)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"}} // a controller's work
	if err := client.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	pod := nats.Spec.Template.DeepCopy()
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "nats-js", VolumeSource: corev1.VolumeSource{ // as its controller does
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "nats-js-nats-0"}}})
	if err := admits(t.Context(), client, namespace, "nats-0", pod); err != nil {
		t.Errorf("a pod of NATS: %v", err)
	}
	natsConf := func() string {
		m := &corev1.ConfigMap{}
		if err := client.Get(t.Context(), ctrl.ObjectKey{Namespace: namespace, Name: "nats-config"}, m); err != nil {
			t.Fatal(err)
		}
		return m.Data["nats.conf"]
	}
	if conf := natsConf(); !strings.Contains(conf, `"auth_callout"`) || !strings.Contains(conf, `"FLEET":{"exports"`) {
		t.Errorf("nats.conf is %s", conf)
	}

	// A second run changes nothing, with and without the chart at hand.
	for _, more := range [][]string{{"--chart-dir", charts}, nil} {
		if r := shell.want(t, 0, nil, install(append(more, "--plan")...)...); r.stdout+r.stderr != "" {
			t.Errorf("a second installation would change\n%s", r.stderr)
		}
	}
	revision := newestRevision(t, client, namespace)

	// With pods it goes on to the public URLs, says what each check found, and fails.
	playing(t, client, namespace, func() {
		shell.want(t, 1, []string{"0 objects changed", "FAIL  certificate of the API", "everything is installed, and does not work through its public URLs yet"},
			install("--timeout", "30s", "-o", "text")...)
	})
	if r := shell.want(t, 0, []string{"3/3", "ready"}, "status"); strings.Contains(r.stdout, "drift") {
		t.Errorf("status is\n%s", r.stdout)
	}
	if now := newestRevision(t, client, namespace); now != revision {
		t.Errorf("runs that change nothing made revision %s of %s", now, revision)
	}

	// What somebody else changed is shown, asked about, and taken back: of the
	// objects that we apply and of those that a chart made.
	base := ctrl.MergeFrom(nats.DeepCopy())
	nats.Spec.Replicas = new(int32)
	if err := client.Patch(t.Context(), nats, base); err != nil {
		t.Fatal(err)
	}
	callout := deployment(t, client, namespace, "fleet-callout")
	base = ctrl.MergeFrom(callout.DeepCopy())
	callout.Spec.Replicas = new(int32)
	if err := client.Patch(t.Context(), callout, base); err != nil {
		t.Fatal(err)
	}
	drift := []string{"update Release fleet-system/nats", "-   replicas: 0\n+   replicas: 3", "update Deployment fleet-system/fleet-callout", "-   replicas: 0\n+   replicas: 2"}
	shell.want(t, 4, append(drift, "--yes"), install("--no-wait")...)
	if *statefulSet(t, client, namespace).Spec.Replicas != 0 {
		t.Error("something was changed without an answer")
	}
	shell.want(t, 0, drift, install("--no-wait", "--yes")...)
	if n := *statefulSet(t, client, namespace).Spec.Replicas; n != 3 {
		t.Errorf("NATS has %d replicas", n)
	}

	// Changed values are always an upgrade; an unexpected version never is.
	shell.want(t, 0, []string{"update Release fleet-system/nats", "-       replicas: 3\n+       replicas: 5"}, install("--no-wait", "--yes", "--nats-replicas", "5")...)
	if n := *statefulSet(t, client, namespace).Spec.Replicas; n != 5 {
		t.Errorf("NATS has %d replicas", n)
	}
	shell.want(t, 0, []string{"2.99.0"}, install("--no-wait", "--yes", "--nats-replicas", "5", "--chart-dir", other, "--nats-chart-version", "2.99.0")...)
	shell.want(t, 1, []string{"newer than the 2.12.3 that is expected", "--nats-chart-version 2.99.0"}, install("--no-wait", "--yes", "--nats-replicas", "5", "--chart-dir", charts)...)

	r := shell.want(t, 0, nil, "upgrade", "--no-wait", "--yes", "--image-tag", "v1.3.0", "-o", "json")
	var answer struct {
		Changes []struct{ Action, Object string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &answer); err != nil || len(answer.Changes) == 0 {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	if slices.ContainsFunc(answer.Changes, func(c struct{ Action, Object string }) bool { return strings.HasPrefix(c.Object, "Release ") }) {
		t.Errorf("another image of ours is no reason to touch NATS: %v", answer.Changes)
	}

	shell.want(t, 4, []string{"delete Release fleet-system/nats"}, "uninstall")
	shell.want(t, 0, []string{"are kept"}, "uninstall", "--yes", "--timeout", "1m")
	if err := client.Get(t.Context(), ctrl.ObjectKeyFromObject(nats), nats); !apierrors.IsNotFound(err) {
		t.Errorf("NATS is still there: %v", err)
	}
	mustExist(t, client, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fleet-nats-tls"}})
	shell.want(t, 1, []string{"there is no installation"}, "status")

	// What StatefulSets asked for goes with a purge, which is asked twice.
	shell.want(t, 0, nil, install("--no-wait", "--chart-dir", charts)...)
	volume := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "nats-js-nats-0", Labels: nats.Spec.Selector.MatchLabels},
		Spec: nats.Spec.VolumeClaimTemplates[0].Spec}
	if err := client.Create(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	shell.want(t, 4, []string{"delete PersistentVolumeClaim fleet-system/nats-js-nats-0", "delete Secret fleet-system/fleet-signing"}, "uninstall", "--purge", "--yes")
	mustExist(t, client, volume)
}

// otherVersion copies the charts, with another version of NATS'.
func otherVersion(t *testing.T, charts string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(charts)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nats", "Chart.yaml")
	if err := os.WriteFile(path, []byte(strings.Replace(read(t, path), "\nversion: 2.12.3\n", "\nversion: 2.99.0\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func statefulSet(t *testing.T, c ctrl.Client, namespace string) *appsv1.StatefulSet {
	t.Helper()
	s := &appsv1.StatefulSet{}
	if err := c.Get(t.Context(), ctrl.ObjectKey{Namespace: namespace, Name: "nats"}, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// newestRevision names the newest record of Helm about NATS.
func newestRevision(t *testing.T, c ctrl.Client, namespace string) string {
	t.Helper()
	list := &corev1.SecretList{}
	if err := c.List(t.Context(), list, ctrl.InNamespace(namespace), ctrl.MatchingLabels{"owner": "helm", "name": "nats"}); err != nil || len(list.Items) == 0 {
		t.Fatalf("%d records of Helm, %v", len(list.Items), err)
	}
	return list.Items[len(list.Items)-1].Name
}

// playing writes the status of pods that are ready, as controllers and kubelets
// would, while something runs.
func playing(t *testing.T, c ctrl.Client, namespace string, during func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, name := range []string{"zitadel", "zitadel-login", "fleet-operator", "fleet-callout", "fleet-dashboard"} {
				d := &appsv1.Deployment{}
				if c.Get(ctx, ctrl.ObjectKey{Namespace: namespace, Name: name}, d) == nil && d.Status.AvailableReplicas == 0 {
					n := *d.Spec.Replicas
					d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
					_ = c.Status().Update(ctx, d) // tried again
				}
			}
			s := &appsv1.StatefulSet{}
			if c.Get(ctx, ctrl.ObjectKey{Namespace: namespace, Name: "nats"}, s) == nil && s.Status.AvailableReplicas == 0 {
				n := *s.Spec.Replicas
				s.Status = appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
				_ = c.Status().Update(ctx, s)
			}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	during()
	stop()
	<-done
}
