package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
)

// What was not tested is no failure, and cannot be overlooked, by a person or by a
// script.
func TestReportOfWhatWasNotTested(t *testing.T) {
	skipped := install.Check{Name: "callout lets a device in", Skipped: true, Detail: "not tested: nobody is signed in", Hint: "fleetctl login; then: fleetctl server test"}
	o := &serverInstallOptions{}
	o.Domain = "fleet.example.com"
	report := func(output string, checks ...install.Check) (string, error) {
		var out bytes.Buffer
		f := &Factory{Streams: Streams{Out: &out, Err: io.Discard}}
		f.global.output = output
		err := reportInstallation(f, o, &install.Plan{}, checks)
		return out.String(), err
	}
	text, err := report("text", install.Check{Name: "API is ready", OK: true}, skipped)
	if err != nil || !strings.Contains(text, "ok    API is ready\n") || !strings.Contains(text, "SKIP  callout lets a device in: not tested") ||
		!strings.HasSuffix(text, "\nWARNING: callout lets a device in: not tested: nobody is signed in\n  fleetctl login; then: fleetctl server test\n") {
		t.Errorf("%v\n%s", err, text)
	}
	data, err := report("json", skipped)
	var answer serverInstallResult
	if failed := json.Unmarshal([]byte(data), &answer); failed != nil || err != nil || len(answer.Warnings) != 1 || !answer.Checks[0].Skipped || answer.Checks[0].OK {
		t.Errorf("%v, %v\n%s", err, failed, data)
	}
	if _, err := report("text", skipped, install.Check{Name: "API is ready", Detail: "503"}); hint.Code(err) != hint.CodeFailed || !strings.Contains(err.Error(), "API is ready: 503") || strings.Contains(err.Error(), "not tested") {
		t.Errorf("a failure beside it: %v", err)
	}
	if text, err := report("text", install.Check{Name: "API is ready", OK: true}); err != nil || strings.Contains(text, "WARNING") {
		t.Errorf("everything tested: %v\n%s", err, text)
	}
}
