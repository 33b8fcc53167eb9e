package fleetsim

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nationtech/fleetctl/agent/link"
	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// group is a Deployment and the devices that its selector matches.
type group struct {
	name    string
	devices []*device
	// change is the last change of the Deployment whose hints are measured.
	change atomic.Pointer[change]
}

type change struct {
	at      time.Time
	missing atomic.Int64 // devices that were not hinted yet
}

// device is one played device.
type device struct {
	id     string
	group  *group
	fleet  *fleet
	random *rand.Rand
	link   *link.Link

	// What a soak's agents do otherwise; see agent.
	steady   bool                                // all that it runs runs well
	accepted func(before, after map[string]*job) // may be nil
	now      func() time.Time

	mu       sync.Mutex      // over what follows; held while a state is written
	pinned   wire.PinnedKeys // it follows the control plane from key to key
	told     uint64          // the revision of the keys that it last said it has
	revision uint64
	work     map[string]*job
	hinted   *change // the last one that a hint was counted for
	// behind says that the control plane may not have the device's state:
	// a write failed, or there is new work.
	behind bool
}

// job is a deployment that the device was told to run.
type job struct {
	hash       string // of the desired state that it was told with
	uid        string
	generation int64
	phase      wire.Phase // last reported
	starting   bool       // it does not run yet
}

// machine is the same for a device of every run, so that a run takes over the
// ids of the one before.
func (d *device) machine() string {
	sum := sha256.Sum256([]byte("fleetsim " + d.id))
	return hex.EncodeToString(sum[:16])
}

// key hands out the pre-shared key of an enrolment.
type key struct{ user, password string }

func (k key) Credential(context.Context) (credential.Credential, error) {
	return credential.Credential{User: k.user, Password: credential.Secret(k.password)}, nil
}

// enrol registers the device and remembers what it was given.
func (d *device) enrol(ctx context.Context) (api.Enrolment, error) {
	e, err := d.fleet.Enrol(ctx, d.id, api.EnrolmentRequest{MachineID: d.machine()})
	if err != nil {
		return e, err
	}
	if e.PSK == "" {
		return e, hint.New("the server takes no pre-shared keys, which is what played devices have", "start it with: fleet-server all --allow-psk")
	}
	d.mu.Lock()
	d.pinned = e.SigningKeys
	d.mu.Unlock()
	return e, nil
}

func (d *device) enrolled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.pinned.Keys) > 0
}

// open begins the device's own connection.
func (d *device) open(ctx context.Context, e api.Enrolment, connected func()) (*link.Link, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(e.CAPEM)) {
		return nil, fmt.Errorf("device %s was enrolled without a CA", d.id)
	}
	return link.Open(ctx, link.Config{
		Device: d.id, URLs: e.NATSURLs, Roots: roots,
		Source:    key{d.id, string(e.PSK)},
		Log:       slog.New(slog.DiscardHandler),
		Connected: connected,
	})
}

// connect opens the device's connection and says what the device is.
func (d *device) connect(ctx context.Context, e api.Enrolment) error {
	up := make(chan struct{}, 1)
	l, err := d.open(ctx, e, func() {
		select {
		case up <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	d.link = l
	select {
	case <-up:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("connect device %s: %w", d.id, ctx.Err()), l.Problem())
	case <-time.After(settleLimit):
		return fmt.Errorf("connect device %s: not within %s: %w", d.id, settleLimit, l.Problem())
	}
	if err := l.Subscribe(wire.HintSubject(d.id), func(string, []byte) { d.hint(ctx) }); err != nil {
		return err
	}
	if err := d.introduce(ctx); err != nil {
		return err
	}
	// What it was told by an earlier run that kept its fleet it is not hinted at again.
	_, err = d.look(ctx)
	return err
}

// introduce writes what the device is and that it lives.
func (d *device) introduce(ctx context.Context) error {
	d.mu.Lock()
	pinned := d.pinned
	d.mu.Unlock()
	info, err := json.Marshal(wire.DeviceInfo{
		SchemaVersion: wire.SchemaVersion, Device: d.id, MachineID: d.machine(),
		Labels:    map[string]string{Label: d.group.name},
		Inventory: wire.Inventory{Hostname: d.id, Architecture: "amd64", ContainerEngine: "none"},
		StartedAt: d.now(), SigningKeys: pinned.IDs(), KeysRevision: pinned.Revision,
	})
	if err != nil {
		return err
	}
	if err := d.link.Put(ctx, wire.BucketInfo, wire.InfoKey(d.id), info); err != nil {
		return fmt.Errorf("device %s: %w", d.id, err)
	}
	d.mu.Lock()
	d.told = pinned.Revision
	d.mu.Unlock()
	return d.heartbeat(ctx)
}

func (d *device) heartbeat(ctx context.Context) error {
	d.mu.Lock()
	revision := d.revision
	d.mu.Unlock()
	data, err := json.Marshal(wire.Heartbeat{SchemaVersion: wire.SchemaVersion, Device: d.id, At: d.now(), Revision: revision})
	if err != nil {
		return err
	}
	return d.link.Put(ctx, wire.BucketHeartbeat, wire.HeartbeatKey(d.id), data)
}

// hint is called for each hint; a hint says only "look again".
func (d *device) hint(ctx context.Context) {
	now := time.Now()
	d.mu.Lock()
	if c := d.group.change.Load(); c != nil && c != d.hinted {
		d.hinted = c
		c.missing.Add(-1)
		d.fleet.hints.add(now.Sub(c.at))
	}
	d.mu.Unlock()
	for range lookAgain {
		again, err := d.look(ctx)
		if d.hasNewKeys() {
			err = errors.Join(err, d.introduce(ctx))
		}
		if err != nil {
			d.fleet.failed(ctx, err)
		}
		if !again && err == nil || !sleepUntil(ctx, time.Now().Add(lookPause)) {
			break
		}
	}
	d.start(ctx)
}

// As an agent does, a device looks again when a fetch failed, or when a server
// of a cluster had the manifest and not yet what it names.
const (
	lookAgain = 10
	lookPause = 250 * time.Millisecond
)

// look fetches the manifest and what changed in it, as an agent does; again says
// that something was not there yet.
func (d *device) look(ctx context.Context) (again bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	data, found, err := d.link.Get(ctx, wire.BucketDesired, wire.ManifestKey(d.id))
	if err != nil || !found {
		return false, err
	}
	d.follow(data)
	var manifest wire.Manifest
	if err := wire.Open(wire.KindManifest, data, d.pinned.Keys, &manifest); err != nil {
		return false, fmt.Errorf("device %s: %w", d.id, err)
	}
	if err := manifest.Validate(d.id); err != nil {
		return false, err
	}
	if manifest.Revision <= d.revision {
		return false, nil
	}
	work := map[string]*job{}
	for _, entry := range manifest.Deployments {
		if old := d.work[entry.Name]; old != nil && old.hash == entry.SHA256 {
			work[entry.Name] = old
			continue
		}
		data, found, err := d.link.Get(ctx, wire.BucketDesired, wire.DesiredKey(d.id, entry.Name))
		if err != nil {
			return true, err
		}
		if !found || wire.Hash(data) != entry.SHA256 {
			return true, nil // on its way
		}
		var desired wire.DesiredState
		if err := json.Unmarshal(data, &desired); err != nil {
			return false, fmt.Errorf("device %s: desired state of %s: %w", d.id, entry.Name, err)
		}
		work[entry.Name] = &job{hash: entry.SHA256, uid: desired.UID, generation: desired.Generation, phase: wire.PhasePending}
	}
	if d.accepted != nil {
		d.accepted(d.work, work)
	}
	d.revision, d.work, d.behind = manifest.Revision, work, true
	return false, nil
}

// follow takes the signing keys that are announced beside a manifest, oldest
// first; what they do not lead to, the manifest's signature shows. d.mu is held.
func (d *device) follow(manifest []byte) {
	for _, sealed := range wire.AttachedKeys(manifest) {
		if next, err := d.pinned.Follow(sealed); err == nil {
			d.pinned = next
		}
	}
}

// hasNewKeys says whether the control plane has yet to hear which keys it has.
func (d *device) hasNewKeys() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pinned.Revision != d.told
}

// report draws a new phase for each deployment and writes the state.
func (d *device) report(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	state := wire.DeviceState{SchemaVersion: wire.SchemaVersion, Device: d.id, Revision: d.revision, At: now, Deployments: []wire.DeploymentState{}}
	for name, j := range d.work {
		entry := wire.DeploymentState{Name: name, UID: j.uid, Generation: j.generation, Since: now}
		switch chance := d.random.IntN(10); {
		case j.starting || chance == 1 && !d.steady:
			entry.Phase = wire.PhasePending
		case chance > 1 || d.steady:
			entry.Phase = wire.PhaseRunning
		default:
			entry.Phase, entry.Message = wire.PhaseFailed, "played failure"
		}
		j.phase = entry.Phase
		state.Deployments = append(state.Deployments, entry)
	}
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	d.behind = true // until the acknowledgement
	began := time.Now()
	if err := d.link.Put(ctx, wire.BucketState, wire.StateKey(d.id), data); err != nil {
		return err
	}
	d.fleet.acks.add(time.Since(began))
	d.behind = false
	return nil
}

func (d *device) isBehind() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.behind
}

// phase is what the device last reported of its group's Deployment; known is
// false when it reported another generation, or nothing.
func (d *device) phase(generation int64) (phase wire.Phase, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	j := d.work[d.group.name]
	if j == nil || j.generation != generation || d.behind {
		return "", false
	}
	return j.phase, true
}
