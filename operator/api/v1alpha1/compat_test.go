package v1alpha1

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/wire"
)

// The API's types and the wire's are different Go types with one JSON: what
// the API accepts reaches the agent byte for byte.

const everything = `{"services":[{"name":"web","image":"nginx:1","ports":["8080:80/udp"],` +
	`"env":[{"name":"A","value":""}],"volumes":[{"hostPath":"/srv","containerPath":"/data","readOnly":true}],` +
	`"restartPolicy":"on-failure","stopTimeout":"1m30s"}]}`

func TestScoreDataIsPodmanV0(t *testing.T) {
	var api ScoreData
	if err := json.Unmarshal([]byte(everything), &api); err != nil {
		t.Fatal(err)
	}
	if api.Other != nil {
		t.Errorf("fields that the API does not know: %v", api.Other)
	}
	sent, err := json.Marshal(api)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := wire.DecodePodmanV0(sent)
	if err != nil {
		t.Fatalf("the agent refuses %s: %v", sent, err)
	}
	again, err := json.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range [][]byte{sent, again} {
		if string(got) != everything {
			t.Errorf("got  %s\nwant %s", got, everything)
		}
	}
}

// TestSameFields fails when a field is added on one side only.
func TestSameFields(t *testing.T) {
	for _, pair := range [][2]any{
		{ScoreData{}, wire.PodmanV0{}},
		{Service{}, wire.Service{}},
		{EnvVar{}, wire.EnvVar{}},
		{Volume{}, wire.Volume{}},
		{Inventory{}, wire.Inventory{}},
	} {
		api, onWire := jsonFields(pair[0]), jsonFields(pair[1])
		if !slices.Equal(api, onWire) {
			t.Errorf("%T has %v, %T has %v", pair[0], api, pair[1], onWire)
		}
	}
}

func jsonFields(v any) []string {
	var out []string
	for field := range reflect.TypeOf(v).Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestScoreDataKeepsWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{
		`{"a":{"b":[1,2.50,"x"]},"z":null}`,
		`{"limits":{"fuel":5},"services":[{"name":"web","image":"nginx"}]}`,
		`{}`,
	} {
		var d ScoreData
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		copied := d.DeepCopy()
		d = ScoreData{}
		if got, err := json.Marshal(copied); err != nil || string(got) != text {
			t.Errorf("got %s (%v), want %s", got, err, text)
		}
	}
	var d ScoreData
	if err := json.Unmarshal([]byte(`{"services":5}`), &d); err == nil {
		t.Error("services of another type are taken")
	}
}

func TestSelector(t *testing.T) {
	for _, tc := range []struct {
		name     string
		selector LabelSelector
		want     string
		fails    bool
	}{
		{"empty matches nothing", LabelSelector{}, "", false},
		{"labels", LabelSelector{MatchLabels: map[string]LabelValue{"b": "2", "a": "1"}}, "a=1,b=2", false},
		{"expressions", LabelSelector{MatchExpressions: []LabelRequirement{
			{Key: "a", Operator: "In", Values: []LabelValue{"y", "x"}}, {Key: "b", Operator: "NotIn", Values: []LabelValue{"z"}},
			{Key: "c", Operator: "Exists"}, {Key: "d", Operator: "DoesNotExist"},
		}}, "a in (x,y),b notin (z),c,!d", false},
		{"an operator that slipped through", LabelSelector{MatchExpressions: []LabelRequirement{{Key: "a", Operator: "Gt", Values: []LabelValue{"1"}}}}, "", true},
	} {
		got, err := tc.selector.Selector()
		if (err != nil) != tc.fails || err == nil && got.String() != tc.want {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
	}
	nothing, _ := (&LabelSelector{}).Selector()
	if nothing.Matches(nil) {
		t.Error("an empty selector matches a device")
	}
}
