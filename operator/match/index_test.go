package match

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
)

func mustParse(t testing.TB, s string) labels.Selector {
	t.Helper()
	sel, err := labels.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

func TestRelabellingMovesBetweenSelectors(t *testing.T) {
	x := NewIndex()
	x.SetSelector("lyon", mustParse(t, "site=lyon"))
	x.SetSelector("paris", mustParse(t, "site in (paris,orly)"))
	x.SetSelector("unsited", mustParse(t, "!site"))
	if c := x.SetDevice("pi-1", map[string]string{"site": "lyon"}); !slices.Equal(c.Joined, []string{"lyon"}) || c.Left != nil {
		t.Fatalf("first labels: %+v", c)
	}
	if c := x.SetDevice("pi-1", map[string]string{"site": "orly"}); !slices.Equal(c.Joined, []string{"paris"}) || !slices.Equal(c.Left, []string{"lyon"}) {
		t.Fatalf("moved: %+v", c)
	}
	if c := x.SetDevice("pi-1", map[string]string{"site": "orly"}); c.Joined != nil || c.Left != nil {
		t.Fatalf("same labels again: %+v", c)
	}
	if c := x.SetDevice("pi-1", nil); !slices.Equal(c.Joined, []string{"unsited"}) || !slices.Equal(c.Left, []string{"paris"}) {
		t.Fatalf("no labels: %+v", c)
	}
	if c := x.RemoveDevice("pi-1"); !slices.Equal(c.Left, []string{"unsited"}) || len(x.Devices("unsited")) != 0 {
		t.Fatalf("removed: %+v", c)
	}
}

func TestNothingMatchesNothing(t *testing.T) {
	x := NewIndex()
	x.SetDevice("pi-1", map[string]string{"a": "b"})
	if c := x.SetSelector("none", labels.Nothing()); c.Joined != nil {
		t.Fatalf("labels.Nothing() joined %v", c.Joined)
	}
	if c := x.SetDevice("pi-2", nil); c.Joined != nil {
		t.Fatalf("a device joined %v", c.Joined)
	}
}

// TestAgainstNaive drives random events and compares the relation and every
// reported change with evaluating each selector against each device.
func TestAgainstNaive(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		x := NewIndex()
		devices, selectors := map[string]map[string]string{}, map[string]labels.Selector{}
		for range 300 {
			before := naive(devices, selectors)
			id, name := fmt.Sprintf("d%d", rnd.IntN(12)), fmt.Sprintf("s%d", rnd.IntN(8))
			var c Change
			var pair func(other string) string
			switch rnd.IntN(7) {
			case 0:
				delete(devices, id)
				c, pair = x.RemoveDevice(id), func(s string) string { return id + "/" + s }
			case 1:
				delete(selectors, name)
				c, pair = x.RemoveSelector(name), func(d string) string { return d + "/" + name }
			case 2, 3:
				selectors[name] = randomSelector(t, rnd)
				c, pair = x.SetSelector(name, selectors[name]), func(d string) string { return d + "/" + name }
			default:
				devices[id] = randomLabels(rnd)
				c, pair = x.SetDevice(id, devices[id]), func(s string) string { return id + "/" + s }
			}
			after := naive(devices, selectors)
			want := diff(before, after)
			if got := (Change{mapped(c.Joined, pair), mapped(c.Left, pair)}); !slices.Equal(got.Joined, want.Joined) || !slices.Equal(got.Left, want.Left) {
				t.Fatalf("seed %d: change %+v, want %+v", seed, got, want)
			}
			for d := range devices {
				for _, s := range x.Selectors(d) {
					if _, ok := after[d+"/"+s]; !ok || !slices.Contains(x.Devices(s), d) {
						t.Fatalf("seed %d: relation has %s/%s", seed, d, s)
					}
					delete(after, d+"/"+s)
				}
			}
			if len(after) > 0 {
				t.Fatalf("seed %d: relation lacks %v", seed, after)
			}
		}
	}
}

func mapped(in []string, f func(string) string) []string {
	var out []string
	for _, s := range in {
		out = append(out, f(s))
	}
	slices.Sort(out)
	return out
}

func naive(devices map[string]map[string]string, selectors map[string]labels.Selector) set {
	out := set{}
	for id, l := range devices {
		for name, s := range selectors {
			if s.Matches(labels.Set(l)) {
				out[id+"/"+name] = struct{}{}
			}
		}
	}
	return out
}

func randomLabels(rnd *rand.Rand) map[string]string {
	out := map[string]string{}
	for _, key := range []string{"a", "b", "c"} {
		if rnd.IntN(3) > 0 {
			out[key] = fmt.Sprint(rnd.IntN(3))
		}
	}
	return out
}

func randomSelector(t *testing.T, rnd *rand.Rand) labels.Selector {
	forms := []string{"a=0", "a=1", "b in (0,2)", "c notin (1)", "a!=2", "b", "!c", "a in (1,2),b=0", "b,!a", "c=2,a"}
	return mustParse(t, forms[rnd.IntN(len(forms))])
}

// BenchmarkRelabel is one device of 10,000 among 1,000 selectors.
func BenchmarkRelabel(b *testing.B) {
	x := NewIndex()
	for i := range 1000 {
		x.SetSelector(fmt.Sprint("s", i), mustParse(b, fmt.Sprintf("group=g%d", i)))
	}
	for i := range 10000 {
		x.SetDevice(fmt.Sprint("d", i), map[string]string{"group": fmt.Sprintf("g%d", i%1000), "device-id": fmt.Sprint("d", i)})
	}
	for i := 0; b.Loop(); i++ {
		x.SetDevice("d1", map[string]string{"group": fmt.Sprintf("g%d", i%1000), "device-id": "d1"})
	}
}
