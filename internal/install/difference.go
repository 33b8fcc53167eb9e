package install

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/sergi/go-diff/diffmatchpatch"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

const contextLines = 2

// difference is what changes between two states of an object, as lines that
// begin with - and +; empty when nothing does.
func difference(before, after *unstructured.Unstructured) (string, error) {
	old, err := shown(before)
	if err != nil {
		return "", err
	}
	new, err := shown(after)
	if err != nil {
		return "", err
	}
	return differenceOfLines(old, new), nil
}

func differenceOfLines(before, after string) string {
	if before == after {
		return ""
	}
	dmp := diffmatchpatch.New()
	a, b, lines := dmp.DiffLinesToChars(before, after)
	return format(dmp.DiffCharsToLines(dmp.DiffMain(a, b, false), lines))
}

func format(diffs []diffmatchpatch.Diff) string {
	var out strings.Builder
	for i, d := range diffs {
		lines := strings.Split(strings.TrimSuffix(d.Text, "\n"), "\n")
		mark := " "
		switch d.Type {
		case diffmatchpatch.DiffDelete:
			mark = "-"
		case diffmatchpatch.DiffInsert:
			mark = "+"
		case diffmatchpatch.DiffEqual:
			lines = around(lines, i > 0, i < len(diffs)-1)
		}
		for _, line := range lines {
			fmt.Fprintf(&out, "%s %s\n", mark, line)
		}
	}
	return out.String()
}

// around keeps the lines next to a change.
func around(lines []string, after, before bool) []string {
	var head, tail int
	if after {
		head = contextLines
	}
	if before {
		tail = contextLines
	}
	if len(lines) <= head+tail+1 {
		return lines
	}
	kept := append([]string{}, lines[:head]...)
	if head > 0 && tail > 0 {
		kept = append(kept, "…")
	}
	return append(kept, lines[len(lines)-tail:]...)
}

// shown is an object without what only the server writes, and without secrets.
func shown(u *unstructured.Unstructured) (string, error) {
	u = u.DeepCopy()
	unstructured.RemoveNestedField(u.Object, "status")
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	if u.GetKind() == "Secret" {
		data, _, _ := unstructured.NestedMap(u.Object, "data")
		for key, value := range data {
			sum := sha256.Sum256([]byte(fmt.Sprint(value)))
			data[key] = "sha256 " + hex.EncodeToString(sum[:8])
		}
		if len(data) > 0 {
			if err := unstructured.SetNestedMap(u.Object, data, "data"); err != nil {
				return "", err
			}
		}
	}
	text, err := yaml.Marshal(u.Object)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", nameOf(u), err)
	}
	return string(text), nil
}

func groupKind(group, kind string) schema.GroupKind {
	return schema.GroupKind{Group: group, Kind: kind}
}
