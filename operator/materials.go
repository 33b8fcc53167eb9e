package operator

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// materialsInterval is how soon a change of a Secret or a ConfigMap is noticed.
const materialsInterval = 10 * time.Second

// materials holds the Secrets and ConfigMaps that Deployments refer to, and
// nothing else. It reads each by its name, without a cache or a watch of all
// of them: "get" on these names is all that the operator needs to be granted.
type materials struct {
	reader client.Reader

	mu      sync.Mutex
	objects map[objectKey]*object
}

// objectKey is a namespace and a name as wire.SecretObject gives it.
type objectKey struct{ namespace, object string }

type object struct {
	data    map[string][]byte   // nil when it is not there
	devices map[string]struct{} // that it was delivered to
}

func newMaterials(reader client.Reader) *materials {
	return &materials{reader: reader, objects: map[objectKey]*object{}}
}

// get gives the data of an object for a device; nil when there is none.
func (m *materials) get(ctx context.Context, k objectKey, device string) (map[string][]byte, error) {
	m.mu.Lock()
	o := m.objects[k]
	if o != nil { // refresh keeps it fresh, and tells every device of a change
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
		m.objects[k] = &object{data: data, devices: map[string]struct{}{}}
	}
	o = m.objects[k]
	o.devices[device] = struct{}{}
	return o.data, nil
}

func (m *materials) read(ctx context.Context, k objectKey) (map[string][]byte, error) {
	kind, name, _ := strings.Cut(k.object, "/")
	key := client.ObjectKey{Namespace: k.namespace, Name: name}
	var data map[string][]byte
	var err error
	if kind == "secret" {
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

// refresh reads everything anew and gives the devices of what changed.
func (m *materials) refresh(ctx context.Context) (changed []string, err error) {
	m.mu.Lock()
	keys := make([]objectKey, 0, len(m.objects))
	for k := range m.objects {
		keys = append(keys, k)
	}
	m.mu.Unlock()
	affected := map[string]struct{}{}
	for _, k := range keys {
		data, readErr := m.read(ctx, k)
		if readErr != nil {
			err = readErr
			continue
		}
		m.mu.Lock()
		if o := m.objects[k]; o != nil {
			if (data == nil) != (o.data == nil) || !maps.EqualFunc(data, o.data, bytes.Equal) {
				maps.Copy(affected, o.devices)
			}
			o.data = data
		}
		m.mu.Unlock()
	}
	for device := range affected {
		changed = append(changed, device)
	}
	return changed, err
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
			delete(m.objects, k)
		}
	}
}
