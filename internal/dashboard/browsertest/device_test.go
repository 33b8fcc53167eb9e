//go:build browser

package browsertest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent/link"
	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// device is a played one: its connection, its reports and its answers to
// commands are real, its containers are not.
type device struct {
	id     string
	labels map[string]string
	info   wire.Inventory
	link   *link.Link
	keys   []ed25519.PublicKey
	output []string // what its service logs

	mu       sync.Mutex
	restarts int
}

type key struct{ user, password string }

func (k key) Credential(context.Context) (credential.Credential, error) {
	return credential.Credential{User: k.user, Password: credential.Secret(k.password)}, nil
}

// connect enrols the device, connects it and says what it is.
func (d *device) connect(t *testing.T, s *server) {
	t.Helper()
	sum := sha256.Sum256([]byte(d.id))
	machine := hex.EncodeToString(sum[:16])
	e := must(s.api.Enrol(t.Context(), d.id, api.EnrolmentRequest{MachineID: machine}))(t)
	d.keys = e.SigningKeys.Keys
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(e.CAPEM))
	up := make(chan struct{}, 1)
	d.link = must(link.Open(t.Context(), link.Config{Device: d.id, URLs: e.NATSURLs, Roots: roots, Source: key{d.id, string(e.PSK)}, Log: slog.New(slog.DiscardHandler),
		Connected: func() {
			select {
			case up <- struct{}{}:
			default:
			}
		}}))(t)
	select {
	case <-up:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not connect: %v", d.id, d.link.Problem())
	}
	if err := d.link.Subscribe(wire.CommandSubject(d.id, "*"), d.command); err != nil {
		t.Fatal(err)
	}
	d.put(t, wire.BucketInfo, wire.InfoKey(d.id), wire.DeviceInfo{SchemaVersion: wire.SchemaVersion, Device: d.id, MachineID: machine, Labels: d.labels, Inventory: d.info, StartedAt: time.Now()})
	d.put(t, wire.BucketHeartbeat, wire.HeartbeatKey(d.id), wire.Heartbeat{SchemaVersion: wire.SchemaVersion, Device: d.id, At: time.Now()})
}

func (d *device) disconnect(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := d.link.Close(ctx); err != nil {
		t.Error(err)
	}
}

func (d *device) put(t *testing.T, b wire.Bucket, key string, v any) {
	t.Helper()
	if err := d.link.Put(t.Context(), b, key, must(json.Marshal(v))(t)); err != nil {
		t.Fatalf("%s: %v", d.id, err)
	}
}

// report says how the deployment is here.
func (d *device) report(t *testing.T, deployment, uid string, generation int64, phase wire.Phase, message string) {
	t.Helper()
	d.put(t, wire.BucketState, wire.StateKey(d.id), wire.DeviceState{SchemaVersion: wire.SchemaVersion, Device: d.id, Revision: 1, At: time.Now(), Deployments: []wire.DeploymentState{{
		Name: deployment, UID: uid, Generation: generation, Phase: phase, Message: message, Since: time.Now(),
		Services: []wire.ServiceState{{Name: "web", Phase: phase, Image: "registry.invalid/web:1"}}}}})
}

// command answers as the agent does.
func (d *device) command(_ string, data []byte) {
	var c wire.Command
	if err := wire.Open(wire.KindCommand, data, d.keys, &c); err != nil {
		return
	}
	sequence := uint64(0)
	reply := func(r wire.Reply) {
		r.SchemaVersion, r.Sequence = wire.SchemaVersion, sequence
		sequence++
		if data, err := json.Marshal(r); err == nil {
			_ = d.link.Send(wire.ReplySubject(d.id, c.Nonce), data)
		}
	}
	switch c.Verb {
	case wire.VerbStream:
		return
	case wire.VerbRestart:
		d.mu.Lock()
		d.restarts++
		d.mu.Unlock()
	case wire.VerbLogs:
		for i, line := range d.output {
			header := make([]byte, wire.FrameHeaderBytes)
			header[0] = byte(wire.FrameStdout + i%2)
			line += "\n"
			binary.BigEndian.PutUint32(header[4:], uint32(len(line)))
			reply(wire.Reply{Data: append(header, line...)})
		}
	case wire.VerbPing:
	default:
		reply(wire.Reply{Done: true, Error: &wire.ReplyError{Code: wire.ReplyUnknownVerb, Message: fmt.Sprint(errors.ErrUnsupported)}})
		return
	}
	reply(wire.Reply{Done: true})
}
