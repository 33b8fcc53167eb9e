package operator

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// materials holds the Secrets and ConfigMaps that Deployments refer to, and
// nothing else. It reads each by its name and watches it by its name, so that
// "get" and "watch" are all that the operator needs to be granted; what a watch
// brings is metadata alone.
type materials struct {
	reader  client.Reader
	watcher client.WithWatch // nil: changes are found by refresh alone
	log     *slog.Logger
	changed func(devices ...string) // told of devices whose material changed

	mu      sync.Mutex
	objects map[objectKey]*object
}

// objectKey is a namespace and a name as wire.SecretObject gives it.
type objectKey struct{ namespace, object string }

func (k objectKey) split() (secret bool, name string) {
	kind, name, _ := strings.Cut(k.object, "/")
	return kind == "secret", name
}

type object struct {
	data    map[string][]byte   // nil when it is not there
	devices map[string]struct{} // that it was delivered to
	unwatch context.CancelFunc  // may be nil
}

func newMaterials(reader client.Reader, watcher client.WithWatch, log *slog.Logger, changed func(devices ...string)) *materials {
	return &materials{reader: reader, watcher: watcher, log: log, changed: changed, objects: map[objectKey]*object{}}
}

// get gives the data of an object for a device; nil when there is none. The
// object is watched from then on, until it is released.
func (m *materials) get(ctx context.Context, k objectKey, device string) (map[string][]byte, error) {
	m.mu.Lock()
	o := m.objects[k]
	if o != nil { // its watch keeps it fresh, and tells every device of a change
		o.devices[device] = struct{}{}
		defer m.mu.Unlock()
		return o.data, nil
	}
	m.mu.Unlock()
	data, err := m.read(ctx, k)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects[k] == nil {
		o := &object{data: data, devices: map[string]struct{}{}}
		m.objects[k] = o
		if m.watcher != nil {
			// It outlives the work that needed it first.
			var watching context.Context
			watching, o.unwatch = context.WithCancel(context.WithoutCancel(ctx))
			go m.watch(watching, k)
		}
	}
	o = m.objects[k]
	o.devices[device] = struct{}{}
	return o.data, nil
}

func (m *materials) read(ctx context.Context, k objectKey) (map[string][]byte, error) {
	secret, name := k.split()
	key := client.ObjectKey{Namespace: k.namespace, Name: name}
	var data map[string][]byte
	var err error
	if secret {
		s := &corev1.Secret{}
		if err = m.reader.Get(ctx, key, s); err == nil {
			data = s.Data
		}
	} else {
		c := &corev1.ConfigMap{}
		if err = m.reader.Get(ctx, key, c); err == nil {
			data = maps.Clone(c.BinaryData)
			if data == nil {
				data = make(map[string][]byte, len(c.Data))
			}
			for k, v := range c.Data {
				data[k] = []byte(v)
			}
		}
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read %s in namespace %s: %w", k.object, k.namespace, err)
	case data == nil:
		data = map[string][]byte{}
	}
	return data, nil
}

// refresh reads one object anew, and tells its devices if it changed.
func (m *materials) refresh(ctx context.Context, k objectKey) error {
	data, err := m.read(ctx, k)
	if err != nil {
		return err
	}
	var affected []string
	m.mu.Lock()
	if o := m.objects[k]; o != nil {
		if (data == nil) != (o.data == nil) || !maps.EqualFunc(data, o.data, bytes.Equal) {
			for device := range o.devices {
				affected = append(affected, device)
			}
		}
		o.data = data
	}
	m.mu.Unlock()
	if len(affected) > 0 {
		m.changed(affected...)
	}
	return nil
}

// release notes that a device takes only the objects in use.
func (m *materials) release(device string, use map[objectKey]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, o := range m.objects {
		if use[k] {
			continue
		}
		delete(o.devices, device)
		if len(o.devices) == 0 {
			m.drop(k)
		}
	}
}

// drop forgets an object. m.mu is held.
func (m *materials) drop(k objectKey) {
	if o := m.objects[k]; o.unwatch != nil {
		o.unwatch()
	}
	delete(m.objects, k)
}

// close ends every watch.
func (m *materials) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.objects {
		m.drop(k)
	}
}
