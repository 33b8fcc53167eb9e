// Package layout holds the tests of the tree itself: who may import whom, and
// that the documentation names what is there.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/nationtech/fleetctl"

type pkg struct {
	ImportPath string
	Standard   bool
	Deps       []string
	Imports    []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Deps,Imports", "-tags", "libvirt_dlopen"}, args...)...)
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestForbiddenDependencies checks whole dependency trees, so that nothing
// slips in behind a third package.
func TestForbiddenDependencies(t *testing.T) {
	for _, rule := range []struct {
		of, never, why string
	}{
		{"./cmd/fleet-agent", `^(k8s\.io|sigs\.k8s\.io)/`, "a device has no use for Kubernetes, and no room"},
		{"./cmd/fleet-agent", `^github\.com/spf13/`, "the agent has few flags, and no room"},
		{"./cmd/fleet-agent", `^(golang\.org/x/crypto/ssh|github\.com/pkg/sftp)`, "the agent accepts no inbound connection and makes only NATS ones"},
		{"./cmd/fleet-agent", `^libvirt\.org/`, "devices run no VMs"},
		{"./cmd/fleet-agent", "^" + module + `/(operator|onboard|hostcfg|vm|internal/cli)`, "agent and control plane meet only in wire"},
		{"./operator/...", "^" + module + `/(agent|onboard|hostcfg|vm|internal/cli)`, "operator and agent meet only in wire"},
		{"./onboard/...", "^" + module + `/(agent|operator|internal/cli)`, "onboard knows the device's files, not its programs"},
		{"./hostcfg/...", "^" + module + `/(agent|operator|onboard|internal/(cli|wire))`, "hostcfg configures any host, for any purpose"},
		{"./cmd/fleetctl", `^helm\.sh/`, "it makes fleetctl two and a half times as large: only module helm/ uses it"},
		{"./internal/wire", `\.[a-z]+/`, "wire imports only the standard library"},
		{"./vm", `^libvirt\.org/`, "the VM's life does not depend on who runs it"},
	} {
		never := regexp.MustCompile(rule.never)
		for _, p := range list(t, rule.of) {
			for _, dep := range p.Deps {
				if never.MatchString(dep) && !strings.HasPrefix(dep, "vendor/") && (rule.of != "./internal/wire" || !strings.HasPrefix(dep, module+"/internal/wire")) {
					t.Errorf("%s depends on %s: %s", strings.TrimPrefix(p.ImportPath, module+"/"), dep, rule.why)
				}
			}
		}
	}
}

// TestOnlyOneImportsLibvirt keeps cgo in one place.
func TestOnlyOneImportsLibvirt(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, imported := range p.Imports {
			if imported == "libvirt.org/go/libvirt" && p.ImportPath != module+"/vm/libvirt" {
				t.Errorf("%s imports libvirt; only vm/libvirt may", p.ImportPath)
			}
		}
	}
}

// TestLayoutPathsExist: docs/layout.md and the README name paths in backticks
// and in links; each must be there.
func TestLayoutPathsExist(t *testing.T) {
	path := regexp.MustCompile("[`(]((?:agent|assets|cloudinit|cmd|docs|firmware|helm|hostcfg|internal|onboard|operator|scripts|server|tools|vm)/[A-Za-z0-9_./-]*)[`)]")
	for _, doc := range []string{"docs/layout.md", "README.md"} {
		data, err := os.ReadFile(filepath.Join("../..", doc))
		if err != nil {
			t.Fatal(err)
		}
		found := path.FindAllStringSubmatch(string(data), -1)
		if len(found) == 0 {
			t.Errorf("%s names no path", doc)
		}
		for _, m := range found {
			if _, err := os.Stat(filepath.Join("../..", m[1])); err != nil {
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
	}
}
