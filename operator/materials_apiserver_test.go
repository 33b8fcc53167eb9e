//go:build apiserver

package operator_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/operatortest"
)

// A Secret that a Deployment refers to is watched: a change is on the devices'
// way at once, and what is not referred to stays.
func TestSecretsAreWatched(t *testing.T) {
	f := newFleet(t)
	f.start()
	set, err := kubernetes.NewForConfig(operatortest.Config(t))
	if err != nil {
		t.Fatal(err)
	}
	secrets := set.CoreV1().Secrets("default")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}, StringData: map[string]string{"password": "one", "spare": "x"}}
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f.device("pi-1", map[string]string{"site": "lyon"})
	f.patch(f.getDevice("pi-1"), `{"spec":{"sealingKey":"`+base64.StdEncoding.EncodeToString(key.PublicKey().Bytes())+`"}}`)
	d := f.deploy("default", "hello", "nginx", labels{"site": "lyon"})
	f.patch(d, `{"spec":{"score":{"data":{"services":[{"name":"web","image":"nginx","env":[
		{"name":"P","valueFrom":{"secretKeyRef":{"name":"db","key":"password"}}}]}]}}}}`)

	// holds waits until the device is told what is wanted: the Secret's keys
	// and their values, or what is missing.
	holds := func(want string) {
		t.Helper()
		f.eventually("the device is told "+want, func() string {
			var s wire.DesiredState
			if json.Unmarshal(f.store.Snapshot()[wire.DesiredKey("pi-1", "hello")], &s) != nil || s.Sealed == nil {
				return "nothing"
			}
			if got := s.Sealed.Missing; got != "" {
				return map[bool]string{false: got}[strings.Contains(got, want)]
			}
			m, err := s.Sealed.OpenMaterial(key, "pi-1", "hello")
			if err != nil {
				return err.Error()
			}
			var got []string
			for _, k := range slices.Sorted(maps.Keys(m.Objects["secret/db"])) {
				got = append(got, k+"="+string(m.Objects["secret/db"][k]))
			}
			if text := strings.Join(got, " "); text != want {
				return text
			}
			return ""
		})
	}
	holds("there is no secret/db")
	if _, err := secrets.Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	holds("password=one")
	secret.StringData["password"] = "two"
	begun := time.Now()
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	holds("password=two")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a change was noticed after %s: by a tick, not by a watch", took)
	}
	if err := secrets.Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	holds("there is no secret/db")
}
