package wire

import (
	"strings"
	"testing"
)

func TestValidateLabels(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, tc := range []struct {
		key, value, wrong string
	}{
		{"site", "lyon", ""},
		{"topology.example.com/site", "Lyon_1.a", ""},
		{"empty", "", ""},
		{"device-id", "pi-1", "set by the control plane"},
		{"", "x", "a name has"},
		{"/x", "x", "no DNS name"},
		{"Example.com/x", "x", "no DNS name"},
		{"a..b/x", "x", "no DNS name"},
		{"a/b/c", "x", "a name has"},
		{"-x", "x", "a name has"},
		{"x y", "x", "a name has"},
		{long, "x", "a name has"},
		{"x", long, "value"},
		{"x", "a b", "value"},
		{"x", "-a", "value"},
		{"x", "é", "value"},
	} {
		err := ValidateLabels(map[string]string{tc.key: tc.value})
		if tc.wrong == "" && err != nil || tc.wrong != "" && (err == nil || !strings.Contains(err.Error(), tc.wrong)) {
			t.Errorf("%q=%q: got %v, want %q", tc.key, tc.value, err, tc.wrong)
		}
	}
	err := ValidateLabels(map[string]string{"-a": "", "-b": ""})
	if err == nil || !strings.Contains(err.Error(), `"-a"`) || !strings.Contains(err.Error(), `"-b"`) {
		t.Errorf("not every fault is reported: %v", err)
	}
}
