package operator

import (
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/nationtech/fleetctl/operator/throttle"
)

// core is what the controllers share: the picture of the fleet, what is stored
// of it, and the queues through which one controller gives work to another.
type core struct {
	client     client.Client // reads come from the cache
	store      Store
	links      Links      // may be nil
	identities Identities // may be nil
	recorder   events.EventRecorder
	log        *slog.Logger
	now        func() time.Time
	timing     Timing

	model      *model
	writer     *writer
	materials  *materials
	registry   *registry
	departures *departures
	limiter    *throttle.Limiter
	events     *eventLimits
	counters   *counters

	deployments *inlet[reconcile.Request]    // finalizers
	summaries   *inlet[types.NamespacedName] // Deployments whose status may have changed
	rollouts    *inlet[types.NamespacedName] // Deployments whose history or rollout has to be looked at
	desired     *inlet[string]               // devices whose keys may have to change
	devices     *inlet[string]               // devices whose object may have to change
	patient     *drip                        // the same, where that may wait

	// loaded is closed once reports and stored keys are known. Until then
	// nothing is written to the store or to a status: a picture that is not
	// complete yet would stop containers and make conditions flap.
	loaded chan struct{}
}

func (c *core) apply(e effects) {
	c.desired.add(e.devices...)
	c.summaries.add(e.deployments...)
	c.rollouts.add(e.rollouts...)
}

func (c *core) isLoaded() bool {
	select {
	case <-c.loaded:
		return true
	default:
		return false
	}
}
