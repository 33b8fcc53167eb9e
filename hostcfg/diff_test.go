package hostcfg

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnifiedDiff(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"a\nb\nc\n", "a\nB\nc\n", "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
		{"a", "a\n", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"},
		{"", "a\n", "--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+a\n"},
		{"same\n", "same\n", ""},
		{"\x00", "a", "Binary file /f: 1 bytes become 1 bytes\n"},
	} {
		if got := unifiedDiff("/f", []byte(c.old), []byte(c.new)); got != c.want {
			t.Errorf("%q → %q:\n%s", c.old, c.new, got)
		}
	}
	if got := unifiedDiff("/f", []byte("a\n"), nil); got != "--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n" {
		t.Errorf("removed:\n%s", got)
	}
}

// TestUnifiedDiffAgainstPatch lets patch(1) judge: applied to the old file,
// the diff gives the new one.
func TestUnifiedDiffAgainstPatch(t *testing.T) {
	if _, err := exec.LookPath("patch"); err != nil {
		t.Skip("SKIPPED, no judge: " + err.Error())
	}
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	for round := range 60 {
		old := randomText(random, 1+random.IntN(40))
		edited := strings.SplitAfter(old, "\n")
		for range 1 + random.IntN(4) {
			at := random.IntN(len(edited))
			switch random.IntN(3) {
			case 0:
				edited[at] = fmt.Sprintf("new %d\n", random.IntN(100))
			case 1:
				edited = append(edited[:at:at], edited[at+1:]...)
			case 2:
				edited = append(edited[:at:at], append([]string{"inserted\n"}, edited[at:]...)...)
			}
			if len(edited) == 0 {
				edited = []string{"x"}
			}
		}
		want := strings.Join(edited, "")
		if want == old || want == "" {
			continue
		}
		if err := os.WriteFile(file, []byte(old), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("patch", "-s", file)
		cmd.Stdin = strings.NewReader(unifiedDiff(file, []byte(old), []byte(want)))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("round %d: %v: %s", round, err, out)
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Fatalf("round %d: %v\nold %q\nnew %q\ngot %q", round, err, old, want, got)
		}
	}
}

func randomText(random *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		fmt.Fprintf(&b, "line %d\n", random.IntN(12))
	}
	text := b.String()
	if random.IntN(3) == 0 {
		text = strings.TrimSuffix(text, "\n")
	}
	return text
}
