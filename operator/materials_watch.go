package operator

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// rewatch is how long to wait before an object is looked at again whose watch
// was refused or broke: so often it is read where "watch" was not granted.
const rewatch = 10 * time.Second

// watch reads an object anew whenever it changes, until ctx ends.
func (m *materials) watch(ctx context.Context, k objectKey) {
	for known := ""; ctx.Err() == nil; {
		begun := time.Now()
		err := m.watchOnce(ctx, k)
		if ctx.Err() != nil {
			return
		}
		if err != nil && err.Error() != known {
			known = err.Error()
			m.log.Warn("a change of what Deployments refer to is noticed late", "object", k.object, "namespace", k.namespace, "err", err)
		}
		if err == nil && time.Since(begun) > rewatch {
			continue // API servers end watches after a while
		}
		select {
		case <-ctx.Done():
		case <-time.After(rewatch):
		}
	}
}

// watchOnce follows one watch to its end. Also where none can be had the object
// is read once.
func (m *materials) watchOnce(ctx context.Context, k objectKey) error {
	events, err := m.open(ctx, k)
	if err != nil {
		if failed := m.refresh(ctx, k); failed != nil {
			return failed
		}
		return fmt.Errorf("watch %s in namespace %s: %w", k.object, k.namespace, err)
	}
	defer events.Stop()
	for {
		// The first time for what changed before the watch began.
		if err := m.refresh(ctx, k); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-events.ResultChan():
			if !open || e.Type == watch.Error {
				return nil
			}
		}
	}
}

// open begins a watch of one object's metadata.
func (m *materials) open(ctx context.Context, k objectKey) (watch.Interface, error) {
	secret, name := k.split()
	list := &metav1.PartialObjectMetadataList{}
	kind := "ConfigMapList"
	if secret {
		kind = "SecretList"
	}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	return m.watcher.Watch(ctx, list, client.InNamespace(k.namespace),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", name)})
}
