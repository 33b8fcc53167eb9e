package hostcfg

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzOSRelease(f *testing.F) {
	files, err := filepath.Glob("testdata/os-release/*")
	if err != nil || len(files) == 0 {
		f.Fatal("no recorded os-release files")
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("ID=\"a\\\"b'c\\")
	f.Fuzz(func(t *testing.T, text string) {
		o := ParseOSRelease(text)
		if len(o.ID) > len(text)+len("linux") {
			t.Errorf("ID %q from %q", o.ID, text)
		}
		o.family()
	})
}

func FuzzPasswd(f *testing.F) {
	f.Add("root:x:0:0:root:/root:/bin/bash")
	f.Add("agent:x:-1:99999999999:::")
	f.Fuzz(func(t *testing.T, line string) {
		u, err := parsePasswd(line)
		if err != nil {
			return
		}
		fields := strings.Split(line, ":")
		back := fmt.Sprintf("%s:%s:%d:%d:%s:%s:%s", u.name, fields[1], u.uid, u.gid, u.comment, u.home, u.shell)
		if strings.TrimLeft(fields[2], "0") == fmt.Sprint(u.uid) && strings.TrimLeft(fields[3], "0") == fmt.Sprint(u.gid) && back != line {
			t.Errorf("%q read as %q", line, back)
		}
		if u.uid < 0 || u.gid < 0 || u.name == "" {
			t.Errorf("%q gives %+v", line, u)
		}
	})
}

func FuzzGroupAndSubIDs(f *testing.F) {
	f.Add("adm:x:4:pi,agent", "pi:100000:65536\nagent:165536:65536\n")
	f.Add("x:::", "a:4294967295:4294967295")
	f.Fuzz(func(t *testing.T, group, subids string) {
		if g, err := parseGroup(group); err == nil && (g.name == "" || g.gid < 0) {
			t.Errorf("%q gives %+v", group, g)
		}
		taken := parseSubIDs(subids)
		free, err := freeSubRange("new", taken)
		if err != nil {
			return
		}
		for _, r := range taken {
			if free.overlaps(r) {
				t.Errorf("%v overlaps %v", free, r)
			}
		}
	})
}

func FuzzUnits(f *testing.F) {
	f.Add("[Unit]\nDescription=a\n[Service]\nExecStart=/bin/a \\\n b\n", "Id=a.service\nNames=a.service b.service\nActiveState=active\n\nId=c.socket\n")
	f.Add("ExecStart=/bin/a", "=\n\n=")
	f.Fuzz(func(t *testing.T, file, show string) {
		if err := CheckUnitFile(file); err == nil && !strings.Contains(file, "[") {
			t.Errorf("accepted %q", file)
		}
		for name, u := range parseUnits(show) {
			if name == "" || u["Id"] == "" {
				t.Errorf("%q gives a unit without a name", show)
			}
		}
	})
}

func FuzzBlock(f *testing.F) {
	f.Add("127.0.0.1 localhost\n# BEGIN fleetctl x\nold\n# END fleetctl x\nmore", "new")
	f.Add("# END fleetctl x\n# BEGIN fleetctl x", "")
	f.Add("# BEGIN fleetctl x\n# BEGIN fleetctl x\n# END fleetctl x\n", "a")
	f.Fuzz(func(t *testing.T, text, content string) {
		r, err := Block{Path: "/etc/hosts", Name: "x", Content: content}.prepare()
		if err != nil {
			return
		}
		b := r.(Block)
		once, err := b.edit(text)
		if err != nil {
			return
		}
		twice, err := b.edit(once)
		if err != nil || twice != once {
			t.Errorf("not stable: %q then %q, %v", once, twice, err)
		}
		if from, to, found, _ := b.find(once); found && once[from:to] != b.begin()+"\n"+b.Content+b.end()+"\n" {
			t.Errorf("block is %q", once[from:to])
		}
		b.Content = ""
		without, err := b.edit(once)
		if err != nil {
			t.Errorf("remove: %v", err)
		}
		if _, _, found, _ := b.find(text); !found && strings.TrimSuffix(without, "\n") != strings.TrimSuffix(text, "\n") {
			t.Errorf("adding and removing makes %q of %q", without, text)
		}
	})
}

func FuzzProbeOutput(f *testing.F) {
	f.Add("\n@m stat\n81a4 5 0 0 root root /etc/a b\n\n@m sha256\nabc  /etc/a b\n\n@m content /etc/a b\nhello\n@m end\n")
	f.Add("\n@m df\nx\n1 2 3 4\n@m meminfo\nMemTotal: -\n@m uname\n\n\n\n@m end\n")
	f.Fuzz(func(t *testing.T, out string) {
		sections, err := readSections([]byte(out), "@m")
		if err != nil {
			return
		}
		s, err := parseState(sections)
		if err != nil {
			return
		}
		for _, k := range []key{{keyPath, "/etc/a b"}, {keyPasswd, "a"}, {keySubIDs, ""}, {keyUnit, "a.service"}, {keyPackage, "p"}} {
			s.observed(k)
		}
	})
}
