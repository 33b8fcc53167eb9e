package podman

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/agent/disk"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Images remembers what references stand for across restarts, by service, and
// which images are here because we had them fetched. agent/disk implements it.
type Images interface {
	Resolution(service string) (disk.Resolution, bool)
	Resolve(service string, r disk.Resolution, own bool) error
	Unresolve(service string) error
	// Accept remembers in what a container that we had just made differed.
	Accept(container string, what []string) error
	Accepted(container string) []string
	Own() []string
	Disown(id string) error
}

// resolved gives the image that target stands for, if that is known or can be
// known without a registry.
func (r *Runtime) resolved(ctx context.Context, target *want, have []Container) (disk.Resolution, bool, error) {
	known, ok := r.images.Resolution(target.String())
	if ok && known.Image == target.spec.Image && known.UID == target.uid && known.Generation == target.generation {
		return known, true, nil
	}
	if target.pull == wire.PullAlways {
		return disk.Resolution{}, false, nil
	}
	// A device that is told the same anew, or whose memory was lost, keeps
	// what it runs.
	for _, c := range have {
		if c.ImageName == target.spec.Image && c.Config.Labels[labelHash] == target.hash && (!ok || known.Generation == target.generation) {
			return r.resolve(target, c.ImageID, c.ImageDigest, false)
		}
	}
	image, found, err := r.client.InspectImage(ctx, target.spec.Image)
	if err != nil || !found {
		return disk.Resolution{}, false, err
	}
	return r.resolve(target, image.ID, image.Digest, false)
}

func (r *Runtime) resolve(target *want, id, digest string, own bool) (disk.Resolution, bool, error) {
	res := disk.Resolution{Image: target.spec.Image, UID: target.uid, Generation: target.generation, ID: bareID(id), Digest: digest}
	return res, true, r.images.Resolve(target.String(), res, own)
}

// bareID is an image's id without the algorithm, which some answers have.
func bareID(id string) string { return strings.TrimPrefix(id, "sha256:") }

// ensureImage has the image on the device, and gives it.
func (r *Runtime) ensureImage(ctx context.Context, w *worker, target *want) (Image, error) {
	res, known, err := r.resolved(ctx, target, nil)
	if err != nil {
		return Image{}, err
	}
	reference := target.spec.Image
	if known {
		image, found, err := r.client.InspectImage(ctx, res.ID)
		if err != nil || found {
			return image, errorsFirst(err, runsHere(target.spec.Image, image))
		}
		reference = pinned(target.spec.Image, res.Digest) // somebody removed it
	}
	if err := r.preload(ctx, target.spec.Image); err != nil {
		r.log.Warn("images on the device's disk cannot be used", "error", err)
	}
	image, found, err := r.client.InspectImage(ctx, reference)
	if err != nil {
		return Image{}, err
	}
	fetch := !found || target.pull == wire.PullAlways && !known
	if fetch {
		if target.pull == wire.PullNever {
			return Image{}, because(wire.ReasonImageNotPresent, hint.New(fmt.Sprintf("image %s is not on the device, and pullPolicy is never", reference),
				"put an archive of it into "+r.preloadDir+" (podman save), or change pullPolicy"))
		}
		if image, err = r.fetch(ctx, w, target, reference); err != nil {
			return Image{}, err
		}
	}
	if err := runsHere(target.spec.Image, image); err != nil {
		return Image{}, err
	}
	_, _, err = r.resolve(target, image.ID, image.Digest, fetch)
	return image, err
}

func errorsFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// fetch pulls an image. When the disk is full it makes room and tries again.
func (r *Runtime) fetch(ctx context.Context, w *worker, target *want, reference string) (Image, error) {
	r.progress(w, wire.PhasePending, "pulling "+reference)
	release, err := acquire(ctx, r.pulls)
	if err != nil {
		return Image{}, err
	}
	defer release()
	began := time.Now()
	req := pullRequest{image: reference, plainHTTP: target.plainHTTP, login: target.material.login}
	err = r.client.Pull(ctx, req)
	if err != nil && isFull(err) {
		if n, pruneErr := r.prune(ctx); n > 0 && pruneErr == nil {
			err = r.client.Pull(ctx, req)
		}
	}
	if err != nil {
		return Image{}, pullFault(err, reference)
	}
	image, found, err := r.client.InspectImage(ctx, reference)
	if err == nil && !found {
		err = fmt.Errorf("image %s was pulled and is not there", reference)
	}
	if err != nil {
		return Image{}, err
	}
	r.log.Info("image pulled", "deployment", w.key.deployment, "service", w.key.service,
		"image", reference, "digest", image.Digest, "seconds", time.Since(began).Seconds())
	return image, nil
}

// pullFault names what Podman says at length.
func pullFault(err error, reference string) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "no image found in") && strings.Contains(text, "for architecture"),
		strings.Contains(text, "no matching manifest"), strings.Contains(text, "choosing image instance"):
		return because(wire.ReasonWrongArchitecture, hint.Wrap(fmt.Errorf("image %s has no variant for this device's architecture, %s: %w", reference, runtime.GOARCH, err),
			"build the image for linux/"+runtime.GOARCH+" too"))
	case isFull(err):
		return because(wire.ReasonDiskFull, hint.Wrap(err, "the device's disk is full, and the fleet has no unused images left on it to remove"))
	}
	return because(wire.ReasonPullFailed, err)
}

// isFull says whether an error is the disk's: the kernel's, or that of Podman's
// database.
func isFull(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "no space left on device") || strings.Contains(text, "disk quota exceeded") || strings.Contains(text, "database or disk is full")
}

// runs32 are architectures whose processors run those of the value as well.
var runs32 = map[string]string{"arm64": "arm", "amd64": "386"}

// runsHere refuses an image for other processors. Without this, all that shows
// is "exec format error".
func runsHere(reference string, image Image) error {
	if image.Architecture == "" || image.Architecture == runtime.GOARCH || image.Architecture == runs32[runtime.GOARCH] {
		return nil
	}
	return because(wire.ReasonWrongArchitecture, hint.New(fmt.Sprintf("image %s is for %s, and this device is %s", reference, image.Architecture, runtime.GOARCH),
		"build the image for linux/"+runtime.GOARCH+" too"))
}

// preload takes the archives of the preload directory that were not taken yet.
func (r *Runtime) preload(ctx context.Context, image string) error {
	if r.preloadDir == "" {
		return nil
	}
	archives, err := filepath.Glob(filepath.Join(r.preloadDir, "*.tar*"))
	if err != nil {
		return err
	}
	r.preloading.Lock()
	defer r.preloading.Unlock()
	for _, path := range archives {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		version := fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano())
		if r.preloaded[path] == version {
			continue
		}
		names, err := r.client.Load(ctx, path)
		r.preloaded[path] = version // one that is no archive is not tried for ever
		if err != nil {
			return err
		}
		r.log.Info("images loaded", "archive", path, "images", names, "wanted", image)
	}
	return nil
}
