package systemtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kube "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// presenceWithin is how soon a connection that came or went is in the Device.
const presenceWithin = 5 * time.Second

// checkPresence connects a device to each server of the cluster in turn, and
// ends the connection as the kernel does for a process that was killed: the
// operator, which is connected to one of the servers, hears of all of them.
func (c *cluster) checkPresence(t *testing.T) {
	t.Helper()
	d := enrol(t, c.client(), "presence-1")
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	api, err := kube.New(c.restConfig(), kube.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	connected := func(want bool) time.Duration {
		begun := time.Now()
		eventually(t, fmt.Sprintf("Connected=%v of %s", want, d.ID), func(ctx context.Context) (bool, error) {
			var object v1alpha1.Device
			err := api.Get(ctx, types.NamespacedName{Name: d.ID}, &object)
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			return meta.IsStatusConditionTrue(object.Status.Conditions, v1alpha1.ConditionConnected) == want, err
		})
		return time.Since(begun)
	}
	for node, url := range c.natsURLs {
		socket := dialDevice(t, d, url)
		came := connected(true)
		if err := socket.Close(); err != nil {
			t.Fatal(err)
		}
		went := connected(false)
		t.Logf("server %d: connected in the API after %s, gone after %s", node, came.Round(time.Millisecond), went.Round(time.Millisecond))
		if came > presenceWithin || went > presenceWithin {
			t.Errorf("server %d: connected after %s, gone after %s, at most %s", node, came, went, presenceWithin)
		}
	}
}

// socketDialer keeps the connection below a NATS client's.
type socketDialer struct{ conn net.Conn }

// Dial implements nats.CustomDialer.
func (s *socketDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	s.conn = conn
	return conn, err
}

// dialDevice connects as a device to one server, and gives the socket.
func dialDevice(t *testing.T, d *device, url string) net.Conn {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(d.e.CAPEM))
	dialer := &socketDialer{}
	nc, err := nats.Connect(url, nats.UserInfo(d.ID, string(d.e.PSK)), nats.Secure(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}),
		nats.CustomInboxPrefix(wire.InboxPrefix(d.ID)), nats.NoReconnect(), nats.IgnoreDiscoveredServers(), nats.SetCustomDialer(dialer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return dialer.conn
}
