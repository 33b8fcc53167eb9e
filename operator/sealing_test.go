package operator

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
	"github.com/nationtech/fleetctl/operator/desired"
	"github.com/nationtech/fleetctl/operator/memstore"
)

// objects is the API as far as it is read here.
type objects struct {
	client.Client
	device  v1alpha1.Device
	secrets map[string]map[string][]byte
}

func (o *objects) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch into := into.(type) {
	case *v1alpha1.Device:
		o.device.DeepCopyInto(into)
		return nil
	case *corev1.Secret:
		if data, ok := o.secrets[key.String()]; ok {
			into.Data = data
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
}

const hunter2 = "hunter2"

func withSecret(t *testing.T) *desired.State {
	t.Helper()
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u", Generation: 3}}
	d.Spec.Score = v1alpha1.Score{Type: wire.ScorePodmanV0, Data: v1alpha1.ScoreData{Services: []v1alpha1.Service{{
		Name: "a", Image: "x/a", Files: []v1alpha1.File{{Path: "/etc/db", Secret: "db"}},
		Env: []v1alpha1.EnvVar{{Name: "P", ValueFrom: &v1alpha1.ValueFrom{SecretKeyRef: &v1alpha1.KeyRef{Name: "db", Key: "password"}}}},
	}}}}
	s, err := desired.Render(d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealing(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	api := &objects{secrets: map[string]map[string][]byte{"shop/db": {"password": []byte(hunter2)}}}
	api.device.Spec.SealingKey = base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())
	store := memstore.New()
	wr := newTestWriter(store, openSigner(t))
	var changed []string
	db := objectKey{"shop", "secret/db"}
	held := newMaterials(api, nil, wr.log, func(devices ...string) { changed = append(changed, devices...) })
	r := desiredReconciler{&core{client: api, materials: held, writer: wr}}

	// deliver gives what is stored for a device afterwards.
	deliver := func(device string) (wire.DesiredState, []byte) {
		t.Helper()
		w := wanting(map[string]*desired.State{"web": withSecret(t)})
		if err := r.seal(t.Context(), device, w); err != nil {
			t.Fatal(err)
		}
		if _, err := r.writer.sync(t.Context(), device, w, true); err != nil {
			t.Fatal(err)
		}
		v, err := store.Get(t.Context(), wire.BucketDesired, wire.DesiredKey(device, "web"))
		if err != nil {
			t.Fatal(err)
		}
		var s wire.DesiredState
		if err := json.Unmarshal(v.Data, &s); err != nil || s.Sealed == nil {
			t.Fatalf("stored: %s, %v", v.Data, err)
		}
		if bytes.Contains(v.Data, []byte(hunter2)) || bytes.Contains(v.Data, []byte(base64.StdEncoding.EncodeToString([]byte(hunter2)))) {
			t.Errorf("in clear: %s", v.Data)
		}
		return s, v.Data
	}
	first, stored := deliver("pi-1")
	m, err := first.Sealed.OpenMaterial(key, "pi-1", "web")
	if err != nil || string(m.Objects["secret/db"]["password"]) != hunter2 {
		t.Fatalf("opened %d objects, %v", len(m.Objects), err)
	}
	for _, place := range [][2]string{{"pi-2", "web"}, {"pi-1", "db"}} {
		if _, err := first.Sealed.OpenMaterial(key, place[0], place[1]); err == nil {
			t.Errorf("opens as %v", place)
		}
	}
	if other, _ := deliver("pi-2"); other.Sealed.Tag == first.Sealed.Tag {
		t.Error("the tags of two devices tell that they have the same secret")
	}

	// Nothing changes, also for an operator that just started: no new write.
	if _, again := deliver("pi-1"); !bytes.Equal(again, stored) {
		t.Error("the same content was sealed anew")
	}
	next := newWriter(store, wr.signer, wr.now, wr.log)
	if err := next.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.writer = next
	if _, again := deliver("pi-1"); !bytes.Equal(again, stored) {
		t.Error("another operator sealed the same content anew")
	}

	// A change reaches every device that has it.
	api.secrets["shop/db"] = map[string][]byte{"password": []byte("correct horse")}
	if err := held.refresh(t.Context(), db); err != nil || len(changed) != 2 {
		t.Errorf("changed for %v, %v", changed, err)
	}
	rotated, _ := deliver("pi-1")
	if m, err := rotated.Sealed.OpenMaterial(key, "pi-1", "web"); err != nil || string(m.Objects["secret/db"]["password"]) != "correct horse" {
		t.Errorf("after the change: %v", err)
	}

	for name, tc := range map[string]struct {
		change func()
		says   string
	}{
		"too large":  {func() { api.secrets["shop/db"]["big"] = bytes.Repeat([]byte("x"), 1<<20) }, "the most that a device gets"},
		"gone":       {func() { delete(api.secrets, "shop/db") }, "there is no secret/db in namespace shop"},
		"no key":     {func() { api.device.Spec.SealingKey = "" }, "has no sealing key"},
		"broken key": {func() { api.device.Spec.SealingKey = "AAAA" }, "no X25519 public key"},
	} {
		api.secrets["shop/db"] = map[string][]byte{"password": []byte("x")}
		api.device.Spec.SealingKey = base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())
		tc.change()
		if err := held.refresh(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		if s, _ := deliver("pi-1"); !strings.Contains(s.Sealed.Missing, tc.says) || s.Sealed.Ciphertext != nil {
			t.Errorf("%s: says %q", name, s.Sealed.Missing)
		}
	}
}

// A device gets of an object what a service refers to, and no more.
func TestOnlyReferencedKeysAreSent(t *testing.T) {
	d := &v1alpha1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "u", Generation: 1}}
	env := []v1alpha1.EnvVar{{Name: "P", ValueFrom: &v1alpha1.ValueFrom{SecretKeyRef: &v1alpha1.KeyRef{Name: "db", Key: "password"}}}}
	for name, tc := range map[string]struct {
		service v1alpha1.Service
		want    string
	}{
		"a variable":         {v1alpha1.Service{Name: "a", Image: "x/a", Env: env}, "secret/db: password"},
		"some files":         {v1alpha1.Service{Name: "a", Image: "x/a", Env: env, Files: []v1alpha1.File{{Path: "/etc/db", Secret: "db", Keys: []v1alpha1.ObjectKey{"ca"}}}}, "secret/db: ca password"},
		"all files":          {v1alpha1.Service{Name: "a", Image: "x/a", Env: env, Files: []v1alpha1.File{{Path: "/etc/db", Secret: "db"}}}, "secret/db: ca password spare"},
		"a registry's login": {v1alpha1.Service{Name: "a", Image: "x/a", RegistryCredentials: "db"}, "secret/db:"},
	} {
		d.Spec.Score = v1alpha1.Score{Type: wire.ScorePodmanV0, Data: v1alpha1.ScoreData{Services: []v1alpha1.Service{tc.service}}}
		s, err := desired.Render(d)
		if err != nil {
			t.Fatal(name, err)
		}
		all := map[string][]byte{"password": nil, "ca": nil, "spare": nil}
		var got []string
		for object, keys := range s.Takes {
			got = append(got, object+":")
			got = append(got, slices.Sorted(maps.Keys(taken(all, keys)))...)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// A device whose heartbeat shows that it missed a hint is told again.
func TestBehindIsHinted(t *testing.T) {
	wr := newTestWriter(memstore.New(), openSigner(t))
	w := wanting(map[string]*desired.State{"a": stateOf("ua", "1")})
	if _, err := wr.sync(t.Context(), "pi-1", w, true); err != nil {
		t.Fatal(err)
	}
	before := wr.revision("pi-1")
	if wr.behind("pi-1", before-1) {
		t.Error("hinted again while the first hint is under way")
	}
	wr.device("pi-1").told = wr.now().Add(-2 * hintPatience)
	if wr.behind("pi-1", before) {
		t.Error("hinted though it is up to date")
	}
	if !wr.behind("pi-1", before-1) {
		t.Fatal("not hinted")
	}
	if _, err := wr.sync(t.Context(), "pi-1", w, true); err != nil {
		t.Fatal(err)
	}
	if wr.revision("pi-1") <= before {
		t.Error("the manifest was not written anew")
	}
}

// A new sealing key of a device is news, even where nothing else about it is.
func TestRekeyed(t *testing.T) {
	r := newRegistry(Timing{})
	d := &v1alpha1.Device{ObjectMeta: metav1.ObjectMeta{Name: "pi-1"}}
	for _, tc := range []struct {
		key  string
		want bool
	}{{"", false}, {"first", true}, {"first", false}, {"second", true}} {
		d.Spec.SealingKey = tc.key
		if got := r.setDevice(d); got != tc.want {
			t.Errorf("key %q: rekeyed %t", tc.key, got)
		}
	}
}
