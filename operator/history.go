package operator

import (
	"cmp"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/rollout"
)

// history is what the model knows of the revisions of each Deployment. It is
// guarded by the model's lock.
type history struct {
	of map[types.UID]*pastOf
	// owner finds the Deployment of a revision that is gone.
	owner map[types.NamespacedName]types.UID
}

// pastOf is the history of one Deployment.
type pastOf struct {
	revisions map[string]*revision // by name
	// first is the generation under which a score was told first, before its
	// revision is stored; by fingerprint.
	first map[string]int64
}

// revision is one DeploymentRevision.
type revision struct {
	name        string
	number      int64
	generation  int64
	fingerprint string
	score       v1alpha1.Score
}

func newHistory() history {
	return history{of: map[types.UID]*pastOf{}, owner: map[types.NamespacedName]types.UID{}}
}

func (h history) record(uid types.UID) *pastOf {
	r := h.of[uid]
	if r == nil {
		r = &pastOf{revisions: map[string]*revision{}, first: map[string]int64{}}
		h.of[uid] = r
	}
	return r
}

// generation is that by which devices know a score of d: the one under which
// it was told first.
func (h history) generation(d *v1alpha1.Deployment, fingerprint string) int64 {
	r := h.record(d.UID)
	for _, rev := range r.revisions {
		if rev.fingerprint == fingerprint {
			return rev.generation
		}
	}
	if r.first[fingerprint] == 0 {
		r.first = map[string]int64{fingerprint: d.Generation}
	}
	return r.first[fingerprint]
}

func (h history) forget(uid types.UID) { delete(h.of, uid) }

// list gives the revisions of a Deployment, the newest first.
func (h history) list(uid types.UID) []*revision {
	r := h.of[uid]
	if r == nil {
		return nil
	}
	return slices.SortedFunc(maps.Values(r.revisions), func(a, b *revision) int { return cmp.Compare(b.number, a.number) })
}

// byGeneration finds a revision; nil when it is not kept any more.
func byGeneration(list []*revision, r rollout.Revision) *revision {
	if i := slices.IndexFunc(list, func(v *revision) bool { return v.generation == int64(r) }); i >= 0 && r != 0 {
		return list[i]
	}
	return nil
}

// setRevision takes a DeploymentRevision. One that nothing can be made of is
// left out.
func (m *model) setRevision(d *v1alpha1.DeploymentRevision) effects {
	uid := ownerOf(d)
	score, err := d.Spec.Score.Score()
	if err != nil || uid == "" {
		return effects{}
	}
	fingerprint, err := score.Fingerprint()
	if err != nil {
		return effects{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history.owner[types.NamespacedName{Namespace: d.Namespace, Name: d.Name}] = uid
	m.history.record(uid).revisions[d.Name] = &revision{
		name: d.Name, number: d.Spec.Revision, generation: d.Spec.Generation, fingerprint: fingerprint, score: score,
	}
	return effects{}
}

// removeRevision takes a DeploymentRevision that is gone. Its Deployment is
// looked at: somebody may have removed what it needs.
func (m *model) removeRevision(key types.NamespacedName) effects {
	m.mu.Lock()
	defer m.mu.Unlock()
	uid := m.history.owner[key]
	delete(m.history.owner, key)
	r := m.history.of[uid]
	if r == nil {
		return effects{}
	}
	delete(r.revisions, key.Name)
	var out effects
	for _, c := range m.active {
		if c.uid == uid {
			out.rollouts = append(out.rollouts, c.key)
		}
	}
	return out
}

// ownerOf is the uid of the Deployment that a revision is of; "" when it has
// none.
func ownerOf(d *v1alpha1.DeploymentRevision) types.UID {
	for _, o := range d.OwnerReferences {
		if o.Kind == "Deployment" && o.APIVersion == v1alpha1.GroupVersion.String() {
			return o.UID
		}
	}
	return ""
}
