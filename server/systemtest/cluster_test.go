package systemtest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/signing"
	"github.com/nationtech/fleetctl/server/internal/parts"
)

const (
	natsNodes  = 3
	leaseSpace = "fleet-system"
	// signingSecret is in that namespace too, and mounted where operators read it.
	signingSecret = "fleet-signing"
)

// cluster is a control plane whose parts are processes of their own, on a
// Kubernetes API and a NATS cluster.
type cluster struct {
	t          *testing.T
	dir        string
	ca         *pki.CA
	keys       accounts.Keys
	kubeconfig string
	natsURLs   []string
	api        string // URL of the HTTPS API
	issuer     *issuertest.Issuer
	adminToken string

	nats      []*child
	operators []*child
	callouts  []*child
	dashboard *child
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), keys: accounts.Keys{}}
	var err error
	if c.ca, err = pki.Open(filepath.Join(c.dir, "pki")); err != nil {
		t.Fatal(err)
	}
	c.issuer = issuertest.Start(t)
	c.makeSecrets()
	c.startKubernetes()
	c.startNATS()
	c.startParts()
	c.awaitReady(c.parts()...)
	return c
}

func (c *cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

func (c *cluster) write(data []byte, elem ...string) string {
	c.t.Helper()
	path := c.path(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		c.t.Fatal(err)
	}
	// As a Secret in a pod is: readable by whatever user id the pod got.
	if err := os.WriteFile(path, data, 0o644); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// makeSecrets gives each part a directory with its own keys.
func (c *cluster) makeSecrets() {
	c.t.Helper()
	for part, roles := range map[string][]string{
		"operator":  {accounts.RoleOperator, accounts.RoleBuckets, accounts.RoleWatcher},
		"callout":   {accounts.RoleCallout, accounts.RoleWarden},
		"dashboard": {accounts.RoleAPI, accounts.RolePresence},
	} {
		for _, role := range roles {
			c.keys[role] = c.key(nkeys.CreateUser, part, role)
		}
	}
	key, err := signing.Generate()
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(key, "signing", signing.CurrentFile)
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	c.write(random, "fleet.key")
	_, _ = rand.Read(random)
	c.adminToken = hex.EncodeToString(random)
	c.write([]byte(c.adminToken+"\n"), "admin-token")
	_, _ = rand.Read(random)
	c.write([]byte(hex.EncodeToString(random)), "session.key")
}

// key makes a key for a part and gives its public half.
func (c *cluster) key(create func() (nkeys.KeyPair, error), part, name string) string {
	c.t.Helper()
	pair, err := create()
	if err != nil {
		c.t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(seed, "keys", part, name+".nk")
	public, err := pair.PublicKey()
	if err != nil {
		c.t.Fatal(err)
	}
	return public
}

func (c *cluster) startKubernetes() {
	c.t.Helper()
	server, err := binary()
	if err != nil {
		c.t.Fatal(err)
	}
	kube := newChild(c.t, "kubernetes", server, "kubernetes", "--data-dir", c.path("kubernetes"), "--audit-log", c.path("audit.log"))
	kube.start()
	var answer struct {
		Kubeconfig string `json:"kubeconfig"`
	}
	if !kube.stdout.Scan() || json.Unmarshal(kube.stdout.Bytes(), &answer) != nil {
		kube.reap()
		c.t.Fatalf("the Kubernetes API did not start:\n%s", kube.log.String())
	}
	kube.reap()
	c.kubeconfig = answer.Kubeconfig
	c.makeIdentities()
	c.keepSigningKeys()
}

func (c *cluster) startNATS() {
	c.t.Helper()
	node, err := natsNode()
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := c.ca.ServerCert("nats", []string{"127.0.0.1"})
	if err != nil {
		c.t.Fatal(err)
	}
	file := accounts.External(c.keys, accounts.CalloutKeys{
		Issuer: c.key(nkeys.CreateAccount, "callout", parts.KeyIssuer),
		XKey:   c.key(nkeys.CreateCurveKeys, "callout", parts.KeyXKey),
	})
	var routes, addresses []string
	for range natsNodes {
		routes = append(routes, "nats://"+freePort(c.t))
		addresses = append(addresses, freePort(c.t))
	}
	type tlsFiles struct {
		Cert string `json:"cert_file"`
		Key  string `json:"key_file"`
	}
	for i := range natsNodes {
		name := fmt.Sprintf("nats-%d", i)
		config := struct {
			accounts.File
			Name      string         `json:"server_name"`
			Listen    string         `json:"listen"`
			TLS       tlsFiles       `json:"tls"`
			JetStream map[string]any `json:"jetstream"`
			Cluster   map[string]any `json:"cluster"`
		}{
			File: file, Name: name, Listen: addresses[i], TLS: tlsFiles{cert.CertFile, cert.KeyFile},
			JetStream: map[string]any{"store_dir": c.path(name), "max_file_store": 8 << 30},
			Cluster:   map[string]any{"name": "fleet", "listen": strings.TrimPrefix(routes[i], "nats://"), "routes": routes},
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false) // nats-server's syntax has no \u
		if err := encoder.Encode(config); err != nil {
			c.t.Fatal(err)
		}
		c.natsURLs = append(c.natsURLs, "tls://"+addresses[i])
		n := newChild(c.t, name, node, "--config", c.write(text.Bytes(), name+".conf"))
		n.start()
		n.reap()
		c.nats = append(c.nats, n)
	}
}

// startParts starts two operators, two callouts and the HTTPS API.
func (c *cluster) startParts() {
	c.t.Helper()
	server, err := binary()
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := c.ca.ServerCert("api", []string{"127.0.0.1"})
	if err != nil {
		c.t.Fatal(err)
	}
	part := func(command, name string, more ...string) *child {
		status := freePort(c.t)
		argv := append([]string{server, command, "--kubeconfig", c.path("identities", "fleet-"+command), "--nats-ca", c.ca.Path(),
			"--nats-url", strings.Join(c.natsURLs, ","), "--keys-dir", c.path("keys", command), "--status-address", status}, more...)
		p := newChild(c.t, name, argv...)
		p.status = "http://" + status
		p.start()
		p.reap()
		return p
	}
	people := []string{"--issuer", c.issuer.URL, "--issuer-ca", c.issuer.CA.Path(), "--project-id", c.issuer.ProjectID}
	for i := range 2 {
		c.operators = append(c.operators, part("operator", fmt.Sprintf("operator-%d", i), "--identity", fmt.Sprintf("operator-%d", i),
			"--signing-dir", c.path("signing"), "--namespace", leaseSpace, "--replicas", "3", "--devices", "1000"))
		c.callouts = append(c.callouts, part("callout", fmt.Sprintf("callout-%d", i), append(people, "--fleet-key", c.path("fleet.key"))...))
	}
	address := freePort(c.t)
	c.api = "https://" + address
	c.dashboard = part("dashboard", "dashboard", append(people, "--listen", address, "--tls-cert", cert.CertFile, "--tls-key", cert.KeyFile,
		"--signing-secret", leaseSpace+"/"+signingSecret, "--audit-dir", c.path("audit"), "--admin-token", c.path("admin-token"),
		"--fleet-key", c.path("fleet.key"), "--session-key", c.path("session.key"), "--public-url", c.api,
		"--dashboard-client-id", "2", "--device-nats-url", strings.Join(c.natsURLs, ","), "--device-ca", c.ca.Path())...)
}

func (c *cluster) parts() []*child {
	return append(append([]*child{c.dashboard}, c.operators...), c.callouts...)
}

func (c *cluster) awaitReady(parts ...*child) {
	c.t.Helper()
	deadline := time.Now().Add(startDeadline)
	for _, p := range parts {
		for {
			err := p.ready()
			if err == nil {
				break
			}
			select {
			case <-p.exited:
				c.t.Fatalf("%s ended, %s", p.name, p.cmd.ProcessState)
			case <-time.After(100 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("%s: not ready within %s: %v", p.name, startDeadline, err)
			}
		}
	}
}

func (c *cluster) restConfig() *rest.Config {
	c.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		c.t.Fatal(err)
	}
	config.QPS = -1
	return config
}

func (c *cluster) client() *apiclient.Client {
	c.t.Helper()
	client, err := apiclient.New(c.api, c.ca.PEM(), c.adminToken)
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}
