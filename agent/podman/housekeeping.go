package podman

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// A disk with less free than both is nearly full. (A card of 8 GB must
	// not complain all its life, nor a disk of 2 TB with 100 GB left.)
	lowFraction = 0.10
	lowBytes    = 1 << 30
	// houseKept is the least time between two looks.
	houseKept = time.Minute
)

// Space tells how much of the disk that images are on is left, in bytes.
type Space func() (free, total uint64, err error)

// housekeep looks at the disk now and then. When it is nearly full, images
// that nothing needs are removed, and the device says so.
func (r *Runtime) housekeep(ctx context.Context) {
	if r.space == nil || time.Since(r.houseLooked) < houseKept {
		return
	}
	r.houseLooked = time.Now()
	low := func() (string, bool) {
		free, total, err := r.space()
		if err != nil || free >= lowBytes || float64(free) >= lowFraction*float64(total) {
			return "", false
		}
		return fmt.Sprintf("the disk is nearly full: %d MiB of %d MiB are free", free>>20, total>>20), true
	}
	warning, is := low()
	if is {
		if n, err := r.prune(ctx); err != nil {
			r.log.Warn("images cannot be removed", "error", err)
		} else if n > 0 {
			if warning, is = low(); is {
				warning += fmt.Sprintf(", after %d unused images were removed", n)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if warning != r.warning {
		r.warning = warning
		signal(r.changed)
	}
}

// Warnings are what a person should see to.
func (r *Runtime) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.warning == "" {
		return nil
	}
	return []string{r.warning}
}

// prune removes the images that the fleet had fetched and that no service
// stands for any more. Podman keeps those that a container has.
func (r *Runtime) prune(ctx context.Context) (removed int, err error) {
	r.mu.Lock()
	var needed, references []string
	for _, d := range r.deployments {
		if d.fault != nil {
			r.mu.Unlock()
			return 0, nil // it is not known what that one needs
		}
		for _, w := range d.wants {
			references = append(references, w.spec.Image)
			if res, ok := r.images.Resolution(w.String()); ok {
				needed = append(needed, res.ID)
			}
		}
	}
	r.mu.Unlock()
	for _, reference := range references {
		image, found, err := r.client.InspectImage(ctx, reference)
		if err != nil {
			return 0, err
		}
		if found {
			needed = append(needed, bareID(image.ID))
		}
	}
	for _, id := range r.images.Own() {
		if slices.Contains(needed, id) {
			continue
		}
		image, found, err := r.client.InspectImage(ctx, id)
		if err != nil {
			return removed, err
		}
		gone := true
		if found {
			if gone, err = r.client.RemoveImage(ctx, id); err != nil {
				return removed, err
			}
		}
		if !gone {
			continue // a container has it
		}
		if found {
			removed++
			r.log.Info("unused image removed", "image", image.RepoTags, "id", short(id))
		}
		if err := r.images.Disown(id); err != nil {
			return removed, err
		}
	}
	return removed, nil
}
