package desired

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nationtech/fleetctl/internal/wire"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func deployment(scoreType string, data v1alpha1.ScoreData) *v1alpha1.Deployment {
	return &v1alpha1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "hello", UID: "u-1", Generation: 3},
		Spec:       v1alpha1.DeploymentSpec{Score: v1alpha1.Score{Type: scoreType, Data: data}},
	}
}

func services(s ...v1alpha1.Service) v1alpha1.ScoreData { return v1alpha1.ScoreData{Services: s} }

func TestRender(t *testing.T) {
	s, err := Render(deployment("PodmanV0", services(v1alpha1.Service{Name: "web", Image: "nginx"})))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"schemaVersion":1,"deployment":"hello","namespace":"shop","uid":"u-1","generation":3,` +
		`"score":{"type":"PodmanV0","data":{"services":[{"name":"web","image":"nginx"}]}}}`
	if string(s.Bytes) != want || s.Hash != wire.Hash([]byte(want)) || s.UID != "u-1" {
		t.Errorf("got %s, %+v", s.Bytes, s)
	}
}

func TestRenderPassesOnAVariantOfTheFuture(t *testing.T) {
	data := v1alpha1.ScoreData{Other: map[string]apiextensionsv1.JSON{"modules": {Raw: []byte(`[{"url":"x"}]`)}}}
	s, err := Render(deployment("WasmV1", data))
	if err != nil {
		t.Fatal(err)
	}
	var got wire.DesiredState
	if err := json.Unmarshal(s.Bytes, &got); err != nil || got.Score.Type != "WasmV1" || string(got.Score.Data) != `{"modules":[{"url":"x"}]}` {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRenderRefuses(t *testing.T) {
	web := v1alpha1.Service{Name: "web", Image: "nginx", Ports: []v1alpha1.Port{"80:80"}}
	other := web
	other.Name = "other"
	huge := v1alpha1.Service{Name: "web", Image: "nginx"}
	for range 40 {
		huge.Env = append(huge.Env, v1alpha1.EnvVar{Name: "A", Value: strings.Repeat("x", 32<<10)})
	}
	named := deployment("X", v1alpha1.ScoreData{})
	named.Name = "a.b"
	for _, tc := range []struct {
		name, says string
		d          *v1alpha1.Deployment
	}{
		{"one host port twice", "already taken", deployment("PodmanV0", services(web, other))},
		{"a field beside services", "unknown field", deployment("PodmanV0", v1alpha1.ScoreData{
			Services: []v1alpha1.Service{web}, Other: map[string]apiextensionsv1.JSON{"x": {Raw: []byte("1")}}})},
		{"no services", "at least one", deployment("PodmanV0", v1alpha1.ScoreData{})},
		{"more than a device gets", "bytes; the most", deployment("PodmanV0", services(huge))},
		{"a name that is no key", "deployment name", named},
	} {
		if s, err := Render(tc.d); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, %v", tc.name, s, err)
		}
	}
}

func TestManifestIsSortedAndValid(t *testing.T) {
	hash := wire.Hash(nil)
	m := Manifest("pi-1", 7, map[string]string{"b": hash, "a": hash})
	if err := m.Validate("pi-1"); err != nil || m.Deployments[0].Name != "a" || m.Revision != 7 {
		t.Errorf("%+v, %v", m, err)
	}
	if data, _ := json.Marshal(Manifest("pi-1", 1, nil)); !strings.Contains(string(data), `"deployments":[]`) {
		t.Errorf("an empty manifest is %s", data)
	}
}

func TestRevisionsGrow(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	if got := NextRevision(0, now); got != 1_000_000 {
		t.Errorf("after a wipe: %d", got)
	}
	if got := NextRevision(1_000_000, now); got != 1_000_001 {
		t.Errorf("twice in a millisecond: %d", got)
	}
	if got := NextRevision(5_000_000, now); got != 5_000_001 {
		t.Errorf("with the clock set back: %d", got)
	}
	if got := NextRevision(3, time.UnixMilli(-5)); got != 4 {
		t.Errorf("with a clock before 1970: %d", got)
	}
	if PlausibleRevision(1<<63, now) || !PlausibleRevision(1_000_000+1, now) {
		t.Error("plausibility")
	}
}
