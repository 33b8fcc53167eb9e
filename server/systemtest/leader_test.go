package systemtest

import (
	"slices"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// stopLeader stops the operator that leads, as SIGSTOP or a sleeping machine does,
// while a fleet is busy. Its successor takes over; when it wakes it has to end
// without having changed what the successor wrote.
func (p *probe) stopLeader(t *testing.T) {
	t.Helper()
	leader := p.leader(t)
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := leader.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	took := p.awaitGreen("after the leading "+leader.name+" was stopped", greenWithin)
	t.Logf("%-12s stopped; green again after %s", leader.name, took.Round(10*time.Millisecond))
	if successor := p.leader(t); successor == leader {
		t.Fatalf("%s is stopped, and leads", leader.name)
	}
	before := p.stored(t)
	signal(syscall.SIGCONT)
	select {
	case <-leader.exited:
	case <-time.After(stopDeadline):
		t.Fatalf("%s woke, and goes on", leader.name)
	}
	if code := leader.cmd.ProcessState.ExitCode(); code == 0 {
		t.Errorf("%s lost its leadership, and ended as if nothing had been", leader.name)
	}
	if after := p.stored(t); after != before {
		t.Errorf("%s woke, and the manifest is %+v, was %+v", leader.name, after, before)
	}
	leader.start()
	leader.reap()
	p.c.awaitReady(leader)
	p.awaitGreen("after "+leader.name+" woke", greenWithin)
	if now := p.stored(t); now.revision <= before.revision {
		t.Errorf("revision %d of the manifest came after %d", now.revision, before.revision)
	}
}

// leader is the operator that the Lease names.
func (p *probe) leader(t *testing.T) *child {
	t.Helper()
	leases := schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	lease, err := p.objects.Resource(leases).Namespace(leaseSpace).Get(t.Context(), "fleet-operator", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	holder, _, _ := unstructured.NestedString(lease.Object, "spec", "holderIdentity")
	i := slices.IndexFunc(p.c.operators, func(o *child) bool { return o.name == holder })
	if i < 0 {
		t.Fatalf("the Lease is held by %q", holder)
	}
	return p.c.operators[i]
}

// told is what the probe's device is told.
type told struct {
	revision   uint64
	generation int64
}

func (p *probe) stored(t *testing.T) told {
	t.Helper()
	nc, err := p.device.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	object, err := p.objects.Resource(deployments).Namespace("default").Get(t.Context(), "probe", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	revision, desired, err := p.fetch(t.Context(), nc, object.GetGeneration())
	if err != nil {
		t.Fatal(err)
	}
	return told{revision, desired.Generation}
}
