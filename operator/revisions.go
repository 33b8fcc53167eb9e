package operator

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/rollout"
)

// revisionReconciler takes DeploymentRevisions into the model.
type revisionReconciler struct{ *core }

func (r revisionReconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	d := &v1alpha1.DeploymentRevision{}
	err := r.client.Get(ctx, req.NamespacedName, d)
	switch {
	case apierrors.IsNotFound(err):
		r.apply(r.model.removeRevision(req.NamespacedName))
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("read revision %s: %w", req, err)
	default:
		r.apply(r.model.setRevision(d))
	}
	return reconcile.Result{}, nil
}

// remember makes sure that the present score is the newest revision. again says
// that the cache has yet to catch up. It updates v.
func (r *rolloutReconciler) remember(ctx context.Context, v *rolloutView) (again bool, err error) {
	var number int64 = 1
	if len(v.revisions) > 0 {
		number = v.revisions[0].number + 1
		if v.revisions[0].fingerprint == v.fingerprint {
			return false, nil
		}
	}
	object, err := newRevision(v, number)
	if err != nil {
		return false, err
	}
	for _, old := range v.revisions {
		if old.fingerprint == v.fingerprint {
			return r.renumber(ctx, v, object, old)
		}
	}
	err = r.limiter.Do(ctx, func(ctx context.Context) error {
		return r.client.Create(ctx, object, client.FieldOwner(v1alpha1.ManagerOperator))
	})
	switch {
	case apierrors.IsAlreadyExists(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("keep revision %d of deployment %s: %w", number, v.object.Name, err)
	}
	r.take(v, object)
	return false, nil
}

// renumber makes an old revision the newest again.
func (r *rolloutReconciler) renumber(ctx context.Context, v *rolloutView, object *v1alpha1.DeploymentRevision, old *revision) (again bool, err error) {
	object.Name = old.name
	patch := fmt.Appendf(nil, `{"spec":{"revision":%d}}`, object.Spec.Revision)
	err = r.limiter.Do(ctx, func(ctx context.Context) error {
		return r.client.Patch(ctx, object, client.RawPatch("application/merge-patch+json", patch), client.FieldOwner(v1alpha1.ManagerOperator))
	})
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("renew revision %s: %w", old.name, err)
	}
	r.take(v, object)
	return false, nil
}

// take brings what was written into the model, without waiting for the cache.
func (r *rolloutReconciler) take(v *rolloutView, object *v1alpha1.DeploymentRevision) {
	r.apply(r.model.setRevision(object))
	if now, ok := r.model.rolloutView(client.ObjectKeyFromObject(v.object)); ok {
		*v = now
	}
}

func newRevision(v *rolloutView, number int64) (*v1alpha1.DeploymentRevision, error) {
	d := v.object
	score, err := d.Spec.Score.ForRevision()
	if err != nil {
		return nil, fmt.Errorf("deployment %s: %w", d.Name, err)
	}
	return &v1alpha1.DeploymentRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: d.Namespace,
			Name:      fmt.Sprintf("%s-%.12s-%.8s", d.Name, v.fingerprint, d.UID),
			Labels:    map[string]string{v1alpha1.LabelDeployment: d.Name},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "Deployment", Name: d.Name, UID: d.UID, Controller: ptr.To(true),
			}},
		},
		Spec: v1alpha1.DeploymentRevisionSpec{Revision: number, Generation: v.generation, Score: score},
	}, nil
}

// defaultHistory is how many old revisions are kept.
const defaultHistory = 10

// prune removes the oldest revisions beyond the limit; never one that a device
// runs or that a rollout could go back to. state is nil without a rollout.
func (r *rolloutReconciler) prune(ctx context.Context, v *rolloutView, state *rollout.State) error {
	limit := defaultHistory
	if v.object.Spec.RevisionHistoryLimit != nil {
		limit = int(*v.object.Spec.RevisionHistoryLimit)
	}
	if len(v.revisions) <= limit+1 {
		return nil
	}
	inUse := map[int64]bool{v.generation: true}
	if state != nil {
		inUse[int64(state.Stable)] = true
		for i := range v.devices {
			inUse[int64(v.devices[i].Told)] = true
		}
	}
	kept := 0
	for _, rev := range v.revisions {
		if inUse[rev.generation] {
			continue
		}
		if kept++; kept <= limit {
			continue
		}
		object := &v1alpha1.DeploymentRevision{ObjectMeta: metav1.ObjectMeta{Namespace: v.object.Namespace, Name: rev.name}}
		err := r.limiter.Do(ctx, func(ctx context.Context) error { return r.client.Delete(ctx, object) })
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("remove revision %s: %w", rev.name, err)
		}
	}
	return nil
}
