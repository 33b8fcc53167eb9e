package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// Revision is one entry of a Deployment's history.
type Revision struct {
	Number    int64
	Name      string // of the DeploymentRevision
	Score     v1alpha1.Score
	CreatedAt time.Time
	Current   bool // the Deployment's spec says this
	Stable    bool // the last good one: what a rollback brings back
}

// Images are the images of its services.
func (r *Revision) Images() []string {
	var out []string
	for _, s := range r.Score.Data.Services {
		out = append(out, s.Image)
	}
	return out
}

// History lists the revisions of a Deployment, the newest first.
func History(ctx context.Context, c client.Reader, d *v1alpha1.Deployment) ([]Revision, error) {
	list := &v1alpha1.DeploymentRevisionList{}
	if err := c.List(ctx, list, client.InNamespace(d.Namespace), client.MatchingLabels{v1alpha1.LabelDeployment: d.Name}); err != nil {
		return nil, fmt.Errorf("list revisions of deployment %s: %w", d.Name, err)
	}
	return FromList(list.Items, d)
}

// FromList is History for a caller that has read the revisions; those of other
// Deployments among them are left out.
func FromList(items []v1alpha1.DeploymentRevision, d *v1alpha1.Deployment) ([]Revision, error) {
	now, err := d.Spec.Score.Fingerprint()
	if err != nil {
		return nil, err
	}
	var out []Revision
	for i := range items {
		item := &items[i]
		if !OwnedBy(item, d) {
			continue
		}
		score, err := item.Spec.Score.Score()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", item.Name, err)
		}
		print, err := score.Fingerprint()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", item.Name, err)
		}
		out = append(out, Revision{
			Number: item.Spec.Revision, Name: item.Name, Score: score, CreatedAt: item.CreationTimestamp.UTC(),
			Current: print == now, Stable: d.Status.Rollout != nil && d.Status.Rollout.StableRevisionName == item.Name,
		})
	}
	slices.SortFunc(out, func(a, b Revision) int { return cmp.Compare(b.Number, a.Number) })
	return out, nil
}

// OwnedBy says whether a revision is of this Deployment object, not of one
// that had its name before.
func OwnedBy(r *v1alpha1.DeploymentRevision, d *v1alpha1.Deployment) bool {
	return r.Namespace == d.Namespace && slices.ContainsFunc(r.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == d.UID })
}
