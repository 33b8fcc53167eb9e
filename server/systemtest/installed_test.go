package systemtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/tunnel"
	"github.com/nationtech/fleetctl/internal/testhost/netns"
)

const installedDomain = "fleet.example.com"

// TestInstalledThroughIngress installs everything with one command, and lets it
// run: the pods that the objects ask for are processes of the real programs, and
// the command's own test comes in by the public names, through an ingress that
// goes by the Ingress objects. The charts of others are stand-ins; NATS behind
// them is real, and the embedded issuer stands in for Zitadel.
func TestInstalledThroughIngress(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes network namespaces, and runs processes as other users")
	}
	config := startAPIServer(t)
	client := controllerClient(t, config)
	shell := newOperatorsShell(t, config)
	shell.proxy = ""
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := pki.Open(filepath.Join(t.TempDir(), "pki"))
	if err != nil {
		t.Fatal(err)
	}
	issuer := issuertest.StartWith(t, issuertest.Options{Name: "id." + installedDomain})
	c := &playedCluster{t: t, client: client, set: set, config: config, namespace: "fleet-system", network: newPlayedNetwork(t), authority: authority,
		public: map[string]bool{installedDomain: true, "nats." + installedDomain: true, "id." + installedDomain: true},
		images: map[string]playedImage{"ghcr.io/nationtech/fleet-server": serverImage(t), "nats": natsImage(t),
			"zitadel": {play: zitadelPlayer(issuer)}, "zitadel-login": {play: loginPlayer}}}
	c.start()
	startIngress(t, config, ingressController{namespace: c.namespace, network: c.network.path(), second: ingressSecond}, ingressIP)

	write := func(name, content string) string {
		path := filepath.Join(shell.home, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	shell.network = c.network.path()
	shell.hosts = write("hosts", fmt.Sprintf("127.0.0.1 localhost\n%s %[2]s nats.%[2]s id.%[2]s\n", ingressIP, installedDomain))
	charts, err := filepath.Abs(filepath.Join("testdata", "charts"))
	if err != nil {
		t.Fatal(err)
	}
	install := []string{"install", "--domain", installedDomain, "--with-nats", "--with-zitadel", "--cluster-issuer", "letsencrypt", "--chart-dir", charts,
		"--postgres-dsn-file", write("dsn", "postgres://owner:s3cret@db.example.com/identity\n"), "--ca", write("ca.pem", string(authority.PEM())), "--timeout", "3m"}
	good := []string{"ok    certificate of the API", "ok    API is ready", "ok    OIDC discovery", "ok    callout keeps a stranger out\n",
		"ok    callout lets a device in, and what it writes is read\n", "API and dashboard   https://fleet.example.com", "issuer              https://id.fleet.example.com",
		"NATS, for devices   wss://nats.fleet.example.com:443", "login name          admin@fleet.example.com", "fleetctl login --server https://fleet.example.com --ca-file"}
	shell.want(t, 0, good, append(install, "-o", "text")...)
	shell.want(t, 0, append([]string{"0 objects changed"}, good...), append(install, "-o", "text")...)
	shell.want(t, 0, []string{"fleet-dashboard", "1/1"}, "status")
	for _, part := range []string{"nats", "fleet-operator", "fleet-callout", "fleet-dashboard"} {
		for _, p := range c.of(part) {
			if n := p.restarts.Load(); n > 0 {
				t.Errorf("%s ended %d times", p.object.Name, n)
			}
		}
	}

	visitor := &visitor{c}
	t.Run("what a device is told", func(t *testing.T) { visitor.enrols(t) })
	t.Run("pages", func(t *testing.T) { visitor.looks(t) })
	t.Run("silence", func(t *testing.T) { visitor.waits(t) })

	t.Run("test", func(t *testing.T) {
		shell.want(t, 0, good[:5], "test")
		r := shell.want(t, 0, nil, "test", "-o", "json")
		var answer struct{ Checks []struct{ OK, Skipped bool } }
		if err := json.Unmarshal([]byte(r.stdout), &answer); err != nil || len(answer.Checks) != 5 || !answer.Checks[4].OK {
			t.Errorf("%v\n%s", err, r.stdout)
		}
	})
	t.Run("callouts hang", func(t *testing.T) {
		hold := func(held bool) {
			for _, p := range c.of("fleet-callout") {
				if err := p.hold(held); err != nil {
					t.Fatal(err)
				}
			}
		}
		hold(true)
		defer hold(false)
		shell.want(t, 1, []string{"ok    OIDC discovery", "FAIL  callout keeps a stranger out", "FAIL  callout lets a device in", "no login was decided", "kubectl -n fleet-system logs deployment/fleet-callout"}, "test")
	})
	t.Run("certificate of somebody else", func(t *testing.T) {
		other, err := pki.Open(filepath.Join(t.TempDir(), "pki"))
		if err != nil {
			t.Fatal(err)
		}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "fleet-public-tls"}}
		replace := func(data map[string][]byte) {
			t.Helper()
			if err := client.Get(t.Context(), ctrl.ObjectKeyFromObject(secret), secret); err != nil {
				t.Fatal(err)
			}
			secret.Data = data
			if err := client.Update(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.Get(t.Context(), ctrl.ObjectKeyFromObject(secret), secret); err != nil {
			t.Fatal(err)
		}
		before := secret.Data
		replace(certificateFor(t, other, "other", []string{installedDomain, "nats." + installedDomain}))
		shell.want(t, 1, []string{"FAIL  certificate of the API: ", "certificate signed by unknown authority", "ok    OIDC discovery", "FAIL  callout keeps a stranger out"}, append(install, "-o", "text")...)
		replace(before)
		shell.want(t, 0, good, append(install, "-o", "text")...)
	})
}

// ingressSecond makes an hour of silence, and the minute that an ingress allows by
// itself, short enough to wait for; what takes seconds on a busy machine has time.
const ingressSecond = 50 * time.Millisecond

// serverImage is what `make images` makes of fleet-server, unpacked.
func serverImage(t *testing.T) playedImage {
	t.Helper()
	server, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive, layout, root := filepath.Join(dir, "image.tar"), filepath.Join(dir, "layout"), filepath.Join(dir, "root")
	do := func(cmd *exec.Cmd) {
		t.Helper()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	pack := exec.Command("go", "run", "./internal/ociimage/cmd/images", "--name", "fleet-server", "--version", "v1", "--"+runtime.GOARCH, server, "--output", archive)
	pack.Dir = filepath.Join("..", "..")
	do(pack)
	do(exec.Command("mkdir", layout, root))
	do(exec.Command("tar", "-xf", archive, "-C", layout))
	type descriptor struct{ Digest string }
	blob := func(d descriptor) string {
		return filepath.Join(layout, "blobs", strings.Replace(d.Digest, ":", "/", 1))
	}
	read := func(path string, into any) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var index struct{ Manifests []descriptor }
	read(filepath.Join(layout, "index.json"), &index)
	read(blob(index.Manifests[0]), &index)
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	read(blob(index.Manifests[0]), &manifest)
	for _, layer := range manifest.Layers {
		do(exec.Command("tar", "-xzf", blob(layer), "-C", root))
	}
	var image struct {
		Config struct {
			User       string
			Entrypoint []string
			Env        []string
		}
	}
	read(blob(manifest.Config), &image)
	made := playedImage{root: root, entrypoint: image.Config.Entrypoint, env: image.Config.Env}
	if _, err := fmt.Sscan(image.Config.User, &made.user); err != nil {
		t.Fatal(err)
	}
	return made
}

// natsImage has nats-server in it, and nothing else.
func natsImage(t *testing.T) playedImage {
	t.Helper()
	node, err := natsNode()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Link(node, filepath.Join(root, "nats-server")); err != nil {
		t.Fatal(err)
	}
	return playedImage{root: root, entrypoint: []string{"/nats-server"}}
}

// zitadelPlayer leads what comes to a pod to the issuer, in plain HTTP of both
// versions, and leaves the token that the first start of Zitadel leaves.
func zitadelPlayer(issuer *issuertest.Issuer) func(context.Context, *playedPod) error {
	token := issuer.Token("setup", "fleet-admin")
	return func(ctx context.Context, p *playedPod) error {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.object.Namespace, Name: "fleet-setup-pat"}, Data: map[string][]byte{"pat": []byte(token)}}
		if err := p.cluster.client.Create(ctx, secret); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		return p.serve(ctx, "8080", &httputil.ReverseProxy{Transport: issuer.HTTPClient().Transport, Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", "id."+installedDomain
		}})
	}
}

func loginPlayer(ctx context.Context, p *playedPod) error {
	return p.serve(ctx, "3000", http.NotFoundHandler())
}

// serve plays a program that speaks plain HTTP.
func (p *playedPod) serve(ctx context.Context, port string, handler http.Handler) error {
	listener, err := netns.Listen(p.network, net.JoinHostPort(p.address, port))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, Protocols: &http.Protocols{}}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	return server.Serve(listener)
}

// visitor comes in from outside.
type visitor struct{ c *playedCluster }

func (v *visitor) http() *http.Client {
	return &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: v.c.authority.Pool()},
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				_, port, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				return dialIn(ctx, v.c.network.path(), net.JoinHostPort(ingressIP, port))
			}}}
}

// enrols registers a device and looks at what that is told: by it alone it has to
// find NATS and the issuer, and to trust their certificates.
func (v *visitor) enrols(t *testing.T) {
	token := &corev1.Secret{}
	if err := v.c.client.Get(t.Context(), ctrl.ObjectKey{Namespace: v.c.namespace, Name: "fleet-admin-token"}, token); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+installedDomain+"/v1/devices/pi-1/enrolment",
		bytes.NewReader([]byte(`{"machineId":"`+strings.Repeat("a", 32)+`"}`)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token.Data["admin-token"])))
	request.Header.Set("Content-Type", "application/json")
	response, err := v.http().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	var told api.Enrolment
	if err = errors.Join(err, json.Unmarshal(body, &told)); err != nil || response.StatusCode != http.StatusOK && response.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s, %v", response.Status, body, err)
	}
	if len(told.NATSURLs) != 1 || told.NATSURLs[0] != "wss://nats."+installedDomain+":443" || told.CAPEM != string(v.c.authority.PEM()) {
		t.Errorf("of NATS it is told %v\n%s", told.NATSURLs, told.CAPEM)
	}
	if told.Issuer == nil || told.Issuer.URL != "https://id."+installedDomain || told.Issuer.CAPEM != string(v.c.authority.PEM()) {
		t.Errorf("of the issuer it is told %+v", told.Issuer)
	}
}

// looks at the pages: they are at HTTPS, and lead to the issuer and back.
func (v *visitor) looks(t *testing.T) {
	get := func(url string) (code int, location string) {
		t.Helper()
		response, err := v.http().Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode, response.Header.Get("Location")
	}
	if code, location := get("http://" + installedDomain + "/devices"); code != http.StatusPermanentRedirect || location != "https://"+installedDomain+"/devices" {
		t.Errorf("plain HTTP: %d, to %s", code, location)
	}
	code, location := get("https://" + installedDomain + "/")
	for code == http.StatusFound || code == http.StatusSeeOther {
		if strings.HasPrefix(location, "https://id."+installedDomain+"/") {
			break
		}
		code, location = get("https://" + installedDomain + location)
	}
	if !strings.HasPrefix(location, "https://id."+installedDomain+"/") || !strings.Contains(location, "redirect_uri=https%3A%2F%2Ffleet.example.com%2Fauth%2Fcallback") {
		t.Errorf("the first page leads to %q with %d", location, code)
	}
	if code, _ = get(location); code >= 400 {
		t.Errorf("the issuer answers the pages' sign-in with %d", code)
	}
	conn, _ := v.websocket(t, installedDomain, tunnel.Path) // of fleetctl exec and the like
	_ = conn.Close()
}

// waits on a websocket of NATS on which nobody says anything, as it is between two
// pings: longer than an ingress allows by itself. Without our annotation it ends.
func (v *visitor) waits(t *testing.T) {
	const limit = ingressIdle * ingressSecond
	if err := v.silence(t, 2*limit); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent websocket ended: %v", err)
	}
	in := &networkingv1.Ingress{}
	if err := v.c.client.Get(t.Context(), ctrl.ObjectKey{Namespace: v.c.namespace, Name: "fleet"}, in); err != nil {
		t.Fatal(err)
	}
	before := in.DeepCopy()
	delete(in.Annotations, nginx+"proxy-read-timeout")
	if err := v.c.client.Patch(t.Context(), in, ctrl.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the ingress to go by its own limit", func(context.Context) (bool, error) {
		err := v.silence(t, 3*limit)
		return !errors.Is(err, os.ErrDeadlineExceeded), nil
	})
	after := in.DeepCopy()
	in.Annotations = before.Annotations
	if err := v.c.client.Patch(t.Context(), in, ctrl.MergeFrom(after)); err != nil {
		t.Fatal(err)
	}
}

// silence opens a websocket of NATS, hears the greeting and then nothing for a
// time; it gives what ended that.
func (v *visitor) silence(t *testing.T, limit time.Duration) error {
	t.Helper()
	conn, in := v.websocket(t, "nats."+installedDomain, "/")
	defer conn.Close()
	if _, err := in.ReadString('}'); err != nil { // INFO {…}
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := in.ReadByte(); err != nil {
			return err
		}
	}
}

// websocket opens one through the ingress.
func (v *visitor) websocket(t *testing.T, host, path string) (net.Conn, *bufio.Reader) {
	t.Helper()
	plain, err := dialIn(t.Context(), v.c.network.path(), net.JoinHostPort(ingressIP, "443"))
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(plain, &tls.Config{RootCAs: v.c.authority.Pool(), ServerName: host})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
		request.Header.Set(name, value)
	}
	if err := request.Write(conn); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, request) //nolint:bodyclose // the connection is the body
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("websocket: %v, %v", response, err)
	}
	return conn, in
}
