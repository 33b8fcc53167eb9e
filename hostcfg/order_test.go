package hostcfg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDeclarationsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		why       string
		want      string // part of the error
		resources []Resource
	}{
		{"twice", "file:/etc/a is declared twice", []Resource{File{Path: "/etc/a"}, File{Path: "/etc/a", Content: "x"}}},
		{"same path", "file:/etc/a and symlink:/etc/a both manage /etc/a", []Resource{File{Path: "/etc/a"}, Symlink{Path: "/etc/a", Target: "b"}}},
		{"file and block", "both manage /etc/hosts", []Resource{File{Path: "/etc/hosts"}, Block{Path: "/etc/hosts", Name: "x"}}},
		{"block and file", "both manage /etc/hosts", []Resource{Block{Path: "/etc/hosts", Name: "x"}, File{Path: "/etc/hosts"}}},
		{"file and unit", "both manage /etc/systemd/system/a.service", []Resource{
			File{Path: "/etc/systemd/system/a.service"}, SystemUnit{Name: "a.service", Content: "[Service]\nExecStart=/bin/a\n"}}},
		{"unknown dependency", "reacts to file:/etc/b, which is not declared", []Resource{SystemUnit{Name: "a.service", RestartOn: []string{"file:/etc/b"}}}},
		{"itself", "depends on itself", []Resource{SystemUnit{Name: "a.service", RestartOn: []string{"unit:b.service"}}, SystemUnit{Name: "b.service", RestartOn: []string{"unit:a.service"}}}},
		{"relative path", "not absolute", []Resource{File{Path: "etc/a"}}},
		{"unclean path", `write "/etc/a"`, []Resource{Directory{Path: "/etc//a/"}}},
		{"root", "cannot be managed", []Resource{Directory{Path: "/"}}},
		{"no path", "path is empty", []Resource{File{}}},
		{"line break in path", "control character", []Resource{File{Path: "/etc/a\nb"}}},
		{"backslash in path", "backslash", []Resource{File{Path: `/etc/a\b`}}},
		{"mode", "more than permissions", []Resource{File{Path: "/etc/a", Mode: os.ModeDir | 0o755}}},
		{"content and source", "both Content and Source", []Resource{File{Path: "/etc/a", Content: "a", Source: "/etc/hostname"}}},
		{"no source", "read source", []Resource{File{Path: "/etc/a", Source: filepath.Join(t.TempDir(), "none")}}},
		{"owner", `owner "a b" holds ' '`, []Resource{File{Path: "/etc/a", Owner: "a b"}}},
		{"owner like an option", "starts with a dash", []Resource{File{Path: "/etc/a", Owner: "-R"}}},
		{"long user", "longer than 32", []Resource{User{Name: strings.Repeat("a", 33)}}},
		{"root user", "root cannot be managed", []Resource{User{Name: "root", Absent: true}}},
		{"user's group", "group", []Resource{User{Name: "a", Group: "b:c", Groups: []string{""}}}},
		{"user's home", "not absolute", []Resource{User{Name: "a", Home: "home"}}},
		{"comment", "colon", []Resource{User{Name: "a", Comment: "a:b"}}},
		{"group", "group is empty", []Resource{Group{}}},
		{"linger", "user is empty", []Resource{Linger{}}},
		{"no package", "no package is named", []Resource{Packages{Name: "x"}}},
		{"package", `package "a;b"`, []Resource{Packages{Names: []string{"a;b"}}}},
		{"link target", "target", []Resource{Symlink{Path: "/etc/a"}}},
		{"system directory", "/usr/local is a directory of the system", []Resource{Absent{Path: "/usr/local", Recursive: true}}},
		{"unit suffix", "no suffix of systemd's", []Resource{SystemUnit{Name: "agent"}}},
		{"unit name", `holds '/'`, []Resource{UserUnit{User: "a", Name: "../a.service"}}},
		{"unit file", "unit file", []Resource{SystemUnit{Name: "a.service", Content: "ExecStart=/bin/a\n"}}},
		{"unit there and not", "absent, yet", []Resource{SystemUnit{Name: "a.service", Absent: true, Run: On}}},
		{"sysctl", "not a dotted name", []Resource{Sysctl{Key: "..kernel", Value: "1"}}},
		{"sysctl value", "value", []Resource{Sysctl{Key: "kernel.x", Value: ""}}},
		{"kernel argument", "kernel argument", []Resource{KernelArg{Arg: "a b"}}},
		{"kernel argument's file", "not absolute", []Resource{KernelArg{Arg: "a", Path: "x"}}},
		{"block name", "block name", []Resource{Block{Path: "/etc/hosts"}}},
		{"block with marker", "its own markers", []Resource{Block{Path: "/etc/hosts", Name: "x", Content: "# BEGIN fleetctl x\n"}}},
		{"reboot for nothing", "no resource to react to", []Resource{Reboot{}}},
		{"conditional", "not absolute", []Resource{When(func(*Facts) bool { return true }, File{Path: "x"})}},
	} {
		_, err := Prepare(c.resources)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.why, err, c.want)
		}
	}
}

func TestOrder(t *testing.T) {
	unit := SystemUnit{Name: "a.service", RestartOn: []string{"file:/etc/b"}}
	sorted, err := order([]Resource{
		When(func(*Facts) bool { return true }, unit),
		Block{Path: "/etc/hosts", Name: "x"}, Block{Path: "/etc/hosts", Name: "y"},
		File{Path: "/etc/b"}, Reboot{Name: "r", On: []string{"unit:a.service"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range sorted {
		ids = append(ids, r.ID())
	}
	if got := strings.Join(ids, " "); got != "file:/etc/b unit:a.service block:/etc/hosts#x block:/etc/hosts#y reboot:r" {
		t.Error(got)
	}
}
