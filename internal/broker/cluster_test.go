package broker_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/nationtech/fleetctl/internal/broker"
	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/wire"
)

const nodes = 3

// cluster is NATS servers that somebody else runs, with the configuration that
// they are given for it.
type cluster struct {
	t       testing.TB
	ca      *pki.CA
	servers []*server.Server
	keys    map[string]nkeys.KeyPair // of the roles
	issuer  nkeys.KeyPair
	xkey    nkeys.KeyPair
	turn    atomic.Int64
}

func newCluster(t testing.TB, ca *pki.CA, reportReplicas int) *cluster {
	t.Helper()
	c := &cluster{t: t, ca: ca, keys: map[string]nkeys.KeyPair{}}
	public := accounts.Keys{}
	for _, r := range accounts.Roles() {
		c.keys[r.Name] = must(nkeys.CreateUser())(t)
		public[r.Name] = must(c.keys[r.Name].PublicKey())(t)
	}
	c.issuer, c.xkey = must(nkeys.CreateAccount())(t), must(nkeys.CreateCurveKeys())(t)
	text := must(accounts.External(public, accounts.CalloutKeys{
		Issuer: must(c.issuer.PublicKey())(t), XKey: must(c.xkey.PublicKey())(t),
	}).Encode())(t)
	cert := must(ca.ServerCert("nats", []string{"127.0.0.1", "localhost"}))(t)
	ports := freePorts(t, nodes)
	dir := t.TempDir()
	for n := range nodes {
		opts := &server.Options{}
		if err := opts.ProcessConfigString(text); err != nil {
			t.Fatal(err)
		}
		opts.ServerName = fmt.Sprintf("node-%d", n)
		opts.Host, opts.Port = "127.0.0.1", server.RANDOM_PORT
		opts.TLS, opts.TLSConfig, opts.TLSTimeout = true, cert.TLSConfig(), 10
		opts.MaxPayload = 2 << 20
		opts.JetStream, opts.StoreDir = true, filepath.Join(dir, opts.ServerName)
		opts.JetStreamMaxStore = 8 << 30
		opts.NoSigs, opts.DisableJetStreamBanner = true, true
		opts.Cluster = server.ClusterOpts{Name: "fleet", Host: "127.0.0.1", Port: ports[n]}
		for other, port := range ports {
			if other != n {
				opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: fmt.Sprintf("127.0.0.1:%d", port)})
			}
		}
		s := must(server.NewServer(opts))(t)
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		c.servers = append(c.servers, s)
	}
	for _, s := range c.servers {
		if !s.ReadyForConnections(patience) {
			t.Fatalf("%s is not ready", s.Name())
		}
	}
	js := must(jetstream.New(must(c.connect(accounts.RoleBuckets))(t)))(t)
	var err error
	for deadline := time.Now().Add(3 * patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = broker.EnsureBuckets(timeout(t), js, broker.Sizing{Devices: 600, Replicas: nodes, ReportReplicas: reportReplicas}); err == nil {
			return c
		}
	}
	t.Fatalf("the cluster takes no buckets: %v", err) // it has to elect a leader first
	return nil
}

func freePorts(t testing.TB, n int) []int {
	var ports []int
	for range n {
		l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
		defer l.Close() // all at once, lest one is given twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func (c *cluster) connect(role string) (*nats.Conn, error) {
	key := c.keys[role]
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(fmt.Sprintf("tls://127.0.0.1:%d", c.Port()), nats.Nkey(public, key.Sign), nats.RootCAs(c.ca.Path()),
		nats.CustomInboxPrefix("_INBOX_"+role), nats.Timeout(patience), nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	if err == nil {
		c.t.Cleanup(nc.Close)
	}
	return nc, err
}

func (c *cluster) ConnectOperator() (*nats.Conn, error) { return c.connect(accounts.RoleOperator) }
func (c *cluster) ConnectAPI() (*nats.Conn, error)      { return c.connect(accounts.RoleAPI) }
func (c *cluster) ConnectCallout() (*nats.Conn, error)  { return c.connect(accounts.RoleCallout) }
func (c *cluster) ConnectPresence() (*nats.Conn, error) { return c.connect(accounts.RolePresence) }

func (c *cluster) CalloutKeys() (issuer, xkey nkeys.KeyPair) { return c.issuer, c.xkey }
func (c *cluster) Server() *server.Server                    { return c.servers[0] }

// Port is of one server after the other, so that nobody meets on one.
func (c *cluster) Port() int {
	return c.servers[c.turn.Add(1)%nodes].Addr().(*net.TCPAddr).Port
}

// TestAttacksOnCluster is TestAttacks on three servers, where victim, control
// plane and attackers are on different ones. There are fewer verdicts, each on
// many attacks: who did it is said by the single server's test.
func TestAttacksOnCluster(t *testing.T) {
	const together = 40
	ca := newCA(t)
	f := newFleetOn(t, ca, newCluster(t, ca, 1))
	j := newJudge(t, f)
	all := attacks()
	for from := 0; from < len(all); from += together {
		batch := map[string]attack{}
		for i := from; i < min(from+together, len(all)); i++ {
			batch[fmt.Sprintf("evil-%d", i)] = all[i]
		}
		for _, harm := range j.tryAll(t, batch) {
			t.Errorf("attacks %d to %d: %s", from, from+together-1, harm)
		}
	}
	checkDeviceWorks(t, f, f.device(t, "pi-1"))
}

// TestReplicatedReportsBreak shows a defect of nats-server, which is why
// Sizing.ReportReplicas is 1 on a cluster. The day on which this test fails, a
// server is in use that has it no more, and reports may have copies.
func TestReplicatedReportsBreak(t *testing.T) {
	ca := newCA(t)
	f := newFleetOn(t, ca, newCluster(t, ca, nodes))
	victim := f.device(t, victimID)
	report := func() error { return victim.put(wire.BucketInfo, wire.InfoKey(victimID), []byte("x")) }
	if err := report(); err != nil {
		t.Fatal(err)
	}
	evil := f.rawAs(t, "evil")
	evil.pub(wire.BucketInfo.Subject(wire.InfoKey("evil")), "", "x", "Nats-Expected-Last-Msg-Id: x")
	evil.settle()
	for range 20 {
		if _, err := victim.nc.Request(wire.BucketInfo.Subject(wire.InfoKey(victimID)), []byte("x"), 500*time.Millisecond); err != nil {
			return
		}
	}
	t.Error("the bucket goes on: see Sizing.ReportReplicas")
}
