package operator

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// inlet is the source of a controller whose work comes from inside the
// operator. Keys that are added before the controller has started are kept.
type inlet[K comparable] struct {
	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[K]
	early []K
}

// Start implements source.TypedSource.
func (in *inlet[K]) Start(_ context.Context, queue workqueue.TypedRateLimitingInterface[K]) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.queue = queue
	for _, key := range in.early {
		queue.Add(key)
	}
	in.early = nil
	return nil
}

func (in *inlet[K]) add(keys ...K) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.queue == nil {
		in.early = append(in.early, keys...)
		return
	}
	for _, key := range keys {
		in.queue.Add(key)
	}
}

// addAfter lets what comes in quick succession become one piece of work.
func (in *inlet[K]) addAfter(wait time.Duration, key K) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.queue == nil {
		in.early = append(in.early, key)
		return
	}
	in.queue.AddAfter(key, wait)
}
