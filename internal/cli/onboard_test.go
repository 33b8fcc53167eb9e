package cli

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent/config"
	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/onboard"
)

// What onboarding writes is what the agent's strict parser reads. It is tested
// here because neither of the two packages may import the other.
func TestAgentAcceptsWhatOnboardWrites(t *testing.T) {
	d := onboard.Device{
		ID: "pi-1", Labels: map[string]string{"site": "lyon", "topology.example.com/row": "3"},
		InsecureRegistries: []string{"192.0.2.1:5000"},
		Enrolment:          onboard.Enrolment{NATSURLs: []string{"tls://fleet.example.com:4222"}, CAPEM: "pem"},
	}
	for _, registries := range [][]string{d.InsecureRegistries, nil} {
		d.InsecureRegistries = registries
		text, err := d.ConfigText()
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse([]byte(text), config.Default(1000))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if c.DeviceID != d.ID || len(c.Labels) != 2 || c.Labels["site"] != "lyon" || c.NATS.CAFile == "" || len(c.Podman.InsecureRegistries) != len(registries) || !c.Podman.Enabled {
			t.Errorf("the agent reads %+v of\n%s", c, text)
		}
	}
}

func TestOnboardRefuses(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "hosts.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"no host", nil, "no host was named"},
		{"local and host", []string{"--local", "pi@h"}, "--local"},
		{"file and host", []string{"-f", file("hosts: []"), "pi@h"}, "not from several"},
		{"label without value", []string{"h", "--label", "site"}, `--label "site" is not KEY=VALUE`},
		{"bad label", []string{"h", "--label", "a b=c"}, "a b"},
		{"bad id", []string{"h", "--device-id", "A.b"}, "A.b"},
		{"one id for two", []string{"h", "i", "--device-id", "a"}, "for one host"},
		{"bad host entry", []string{"h", "--host-entry", "x=y"}, `"y" is no IP address`},
		{"two faults", []string{"h", "--host-entry", "x=y", "--device-id", "_"}, "no IP address"},
		{"empty file", []string{"-f", file("hosts: []")}, "hosts is empty"},
		{"unknown key", []string{"-f", file("hosts: [{host: a, lables: {}}]")}, "lables"},
		{"host missing", []string{"-f", file("hosts: [{deviceId: a}]")}, "hosts[0]: host is missing"},
		{"bad id in file", []string{"-f", file("hosts: [{host: a}, {host: b, deviceId: X_}]")}, "hosts[1]:"},
		{"missing file", []string{"-f", "/nonexistent/hosts.yaml"}, "read the list of hosts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := Main("test", append([]string{"onboard", "--server-dir", t.TempDir()}, tc.args...), Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
			if code != hint.CodeUsage || !strings.Contains(errs.String(), tc.want) || !strings.Contains(errs.String(), "hint:") {
				t.Errorf("exit code %d, want %d with %q and a hint; stderr:\n%s", code, hint.CodeUsage, tc.want, &errs)
			}
			if out.Len() > 0 {
				t.Errorf("stdout: %s", &out)
			}
		})
	}
}

func TestHostsFileMergesLabels(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts.yaml")
	content := "labels: {env: prod, site: none}\nhosts:\n- {host: a, deviceId: one, labels: {site: lyon}}\n- {host: b}\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &onboardOptions{file: path, labels: []string{"env=test"}}
	wishes, err := o.wishes(&Factory{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintf("%s %s %v, %s %v", wishes[0].target, wishes[0].DeviceID, wishes[0].Labels, wishes[1].target, wishes[1].Labels)
	if got != "a one map[env:test site:lyon], b map[env:test site:none]" {
		t.Errorf("got %s", got)
	}
}

func testRun(t *testing.T, out, errs *bytes.Buffer, output string) *hostRun {
	t.Helper()
	f := &Factory{Streams: Streams{Out: out, Err: errs}}
	f.global.output = output
	plan := &hostcfg.Plan{Host: "pi@a:22", Facts: &hostcfg.Facts{}, Steps: []*hostcfg.Step{{ID: "file:/x", Changes: []string{"create"}, Diff: "+x\n"}, {ID: "file:/y"}}}
	return &hostRun{factory: f, progress: newProgress(f), parallel: 2, jobs: []*hostJob{
		{index: 0, name: "pi@a", device: "a", plan: plan, took: 1500 * time.Millisecond, outcome: &hostcfg.Outcome{Changed: 1, Steps: []hostcfg.StepOutcome{
			{ID: "file:/x", Changed: true, Seconds: 0.5, Diff: "+x\n"}, {ID: "file:/y"},
		}}},
		{index: 1, name: "pi@b", err: hint.WithCode(hint.New("no answer", "look at the cable"), hint.CodeUnreachable)},
	}}
}

// Scripts rely on this shape.
func TestHostsResultJSON(t *testing.T) {
	var out, errs bytes.Buffer
	err := testRun(t, &out, &errs, outputJSON).finish(t.Context(), nil)
	if hint.Code(err) != hint.CodeUnreachable || !strings.Contains(err.Error(), "1 of 2 hosts failed") {
		t.Errorf("error %v, code %d", err, hint.Code(err))
	}
	const want = `{
  "schemaVersion": 1,
  "hosts": [
    {
      "host": "pi@a",
      "deviceId": "a",
      "changed": 1,
      "seconds": 1.5,
      "error": "",
      "steps": [
        {
          "id": "file:/x",
          "changed": true,
          "seconds": 0.5,
          "changes": [
            "create"
          ],
          "diff": "+x\n"
        },
        {
          "id": "file:/y",
          "changed": false,
          "seconds": 0
        }
      ]
    },
    {
      "host": "pi@b",
      "deviceId": "",
      "changed": 0,
      "seconds": 0,
      "error": "no answer",
      "hint": "look at the cable",
      "steps": []
    }
  ]
}
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
	if !strings.Contains(errs.String(), "pi@b: no answer") || !strings.Contains(errs.String(), "hint: look at the cable") {
		t.Errorf("stderr: %s", &errs)
	}
}

func TestHostsTable(t *testing.T) {
	var out, errs bytes.Buffer
	if err := testRun(t, &out, &errs, outputText).finish(t.Context(), nil); err == nil {
		t.Error("a failed host is no error")
	}
	for _, want := range []string{"HOST", "pi@a   a        1         1.5s   ok", "failed: no answer"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
}

// Changes without a terminal and without --yes are refused.
func TestAgreeNeedsAnAnswer(t *testing.T) {
	var out, errs bytes.Buffer
	run := testRun(t, &out, &errs, outputText)
	goOn, err := run.agree(t.Context(), &hostsOptions{}, "Make these changes?")
	if goOn || hint.Code(err) != hint.CodeDeclined || !strings.Contains(hint.Of(err), "--yes") {
		t.Errorf("went on: %v, error %v, code %d", goOn, err, hint.Code(err))
	}
	if goOn, err := run.agree(t.Context(), &hostsOptions{yes: true}, "Make these changes?"); !goOn || err != nil {
		t.Errorf("--yes: went on: %v, %v", goOn, err)
	}
	run.jobs = run.jobs[:1]
	goOn, err = run.agree(t.Context(), &hostsOptions{plan: true}, "")
	if exit := (*exitError)(nil); goOn || !errors.As(err, &exit) || exit.code != hint.CodeChanges {
		t.Errorf("--plan: went on: %v, error %v", goOn, err)
	}
	if !strings.Contains(out.String(), "file:/x") {
		t.Errorf("the plan is not the result: %s", &out)
	}
}

func TestTwoHostsCannotBeOneDevice(t *testing.T) {
	var out, errs bytes.Buffer
	run := testRun(t, &out, &errs, outputText)
	run.jobs[1].err, run.jobs[1].device = nil, "a"
	run.refuseDuplicates()
	if run.jobs[0].err != nil || run.jobs[1].err == nil || !strings.Contains(run.jobs[1].err.Error(), "pi@a and pi@b would both be device a") {
		t.Errorf("%v, %v", run.jobs[0].err, run.jobs[1].err)
	}
}

func TestProgressKeepsFinishedSteps(t *testing.T) {
	var errs bytes.Buffer
	f := &Factory{Streams: Streams{Err: &errs, ErrTerminal: true}}
	p := newProgress(f)
	j := &hostJob{name: "pi@a"}
	p.begin([]*hostJob{j})
	step := &hostcfg.Step{ID: "file:/x\x1b[2J"}
	p.step(j, hostcfg.StepEvent{Step: step, Index: 0, Total: 2})
	p.step(j, hostcfg.StepEvent{Step: step, Index: 0, Total: 2, Done: true, Elapsed: 1234 * time.Millisecond})
	p.end()
	got := errs.String()
	if !strings.Contains(got, "[1/2] file:/x [2J  1.2s\n") || strings.Contains(got, "\x1b[2J") {
		t.Errorf("got %q", got)
	}
	if !strings.HasSuffix(got, "\x1b[1A\x1b[J") {
		t.Errorf("the live line stays on the screen: %q", got)
	}
}
