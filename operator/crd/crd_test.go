package crd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAllNamesTheObjects(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		names = append(names, m.Name)
	}
	if got := strings.Join(names, " "); got != "deploymentrevisions.fleet.nationtech.io deployments.fleet.nationtech.io devices.fleet.nationtech.io" {
		t.Errorf("CRDs %q", got)
	}
}

// TestGenerated fails when a type was changed without `go generate`.
func TestGenerated(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"tool", "controller-gen", "crd:maxDescLen=400", "paths=../api/v1alpha1", "output:crd:dir=" + dir},
		{"run", "./gen", dir},
	} {
		if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	all, err := filepath.Glob("*.yaml")
	if err != nil || len(all) == 0 {
		t.Fatal("no CRDs", err)
	}
	for _, file := range all {
		want, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is stale: run go generate ./operator/...", file)
		}
	}
}
