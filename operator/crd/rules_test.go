package crd

import (
	"regexp"
	"testing"
)

// gofmt makes typographic quotes of two single ones in a doc comment, and the
// rules of the CRDs are written in doc comments: no API server takes such a rule.
func TestRulesHaveNoTypographicQuotes(t *testing.T) {
	all, err := All()
	if err != nil {
		t.Fatal(err)
	}
	odd := regexp.MustCompile(`rule: [^\n]*(\n +[|&][^\n]*)*[“”‘’]`)
	for _, m := range all {
		if found := odd.Find(m.YAML); found != nil {
			t.Errorf("%s: %s", m.Name, found)
		}
	}
}
