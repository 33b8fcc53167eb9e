package fleet

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Snapshot is the fleet at one moment. It is never changed; what is asked of
// it is worked out once and kept for whoever asks the same.
type Snapshot struct {
	Version     uint64
	Devices     []*Device     // by name
	Deployments []*Deployment // by namespace and name
	States      [states]int   // devices in each state
	Healths     [healths]int  // deployments of each health

	at       time.Time
	problems func() []Problem
	facets   func() []Facet
	answers  sync.Map // of queries and grids: key → func() any
	kept     atomic.Int32
}

func newSnapshot(devices []*Device, deployments []*Deployment, version uint64, at time.Time) *Snapshot {
	s := &Snapshot{Version: version, Devices: devices, Deployments: deployments, at: at}
	for _, d := range devices {
		s.States[d.State]++
	}
	for _, d := range deployments {
		s.Healths[d.Health]++
	}
	s.problems = sync.OnceValue(s.findProblems)
	s.facets = sync.OnceValue(s.findFacets)
	return s
}

// maxAnswers bounds what a snapshot of a quiet fleet gathers.
const maxAnswers = 256

// once works out what key names, unless that was done.
func once[T any](s *Snapshot, key any, work func() T) T {
	answer, known := s.answers.Load(key)
	if !known {
		if s.kept.Add(1) > maxAnswers {
			return work()
		}
		answer, _ = s.answers.LoadOrStore(key, sync.OnceValue(func() any { return work() }))
	}
	return answer.(func() any)().(T)
}

// Device finds a device.
func (s *Snapshot) Device(name string) (*Device, bool) {
	i, ok := slices.BinarySearchFunc(s.Devices, name, deviceIs)
	if !ok {
		return nil, false
	}
	return s.Devices[i], true
}

// Deployment finds a deployment.
func (s *Snapshot) Deployment(namespace, name string) (*Deployment, bool) {
	i, ok := slices.BinarySearchFunc(s.Deployments, [2]string{namespace, name}, deploymentIs)
	if !ok {
		return nil, false
	}
	return s.Deployments[i], true
}

// DeploymentsOf gives the deployments whose selector matches the device.
func (s *Snapshot) DeploymentsOf(d *Device) []*Deployment {
	var out []*Deployment
	for _, x := range s.Deployments {
		if x.Selector.Matches(labels.Set(d.Labels)) {
			out = append(out, x)
		}
	}
	return out
}

// DevicesOf gives the devices that a deployment's selector matches.
func (s *Snapshot) DevicesOf(d *Deployment) []*Device {
	return once(s, "devices of "+d.Key(), func() []*Device {
		var out []*Device
		for _, x := range s.Devices {
			if d.Selector.Matches(labels.Set(x.Labels)) {
				out = append(out, x)
			}
		}
		return out
	})
}
