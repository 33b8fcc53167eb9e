package sshconfig

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// FuzzResolve: whatever a file holds, reading it ends, and what is read does
// not depend on case of keywords or on blanks around lines.
func FuzzResolve(f *testing.F) {
	for _, c := range agreementCases {
		if !strings.Contains(c.config, "{dir}") {
			f.Add(c.config)
		}
	}
	f.Add("Host \"\nMatch exec\nUser ${HOME}\nProxyJump ,,\n")
	f.Fuzz(func(t *testing.T, config string) {
		if strings.Contains(strings.ToLower(config), "include") {
			t.Skip() // reads files that are none of ours
		}
		path := filepath.Join(t.TempDir(), "config")
		local := Local{User: "me", Home: "/home/me", Hostname: "here.example.org"}
		read := func(text string) (*Values, error) {
			write(t, path, text)
			return Resolve(t.Context(), local, []File{{Path: path}}, Query{Host: "h"})
		}
		v, err := read(config)
		if err != nil {
			return
		}
		if v.Hostname == "" && v.Get("hostname") == "" {
			t.Error("no host name")
		}
		for _, name := range []string{"identityfile", "userknownhostsfile"} {
			for _, p := range v.List(name) {
				_, _ = v.Path(p)
			}
		}
		var padded []string
		for _, l := range strings.Split(config, "\n") {
			padded = append(padded, "  "+l)
		}
		w, err := read(strings.Join(padded, "\n"))
		if err != nil {
			t.Fatalf("indented: %v", err)
		}
		if w.User != v.User || w.Port != v.Port || w.Hostname != v.Hostname || !slices.Equal(w.List("identityfile"), v.List("identityfile")) {
			t.Errorf("indented it reads as %+v, else as %+v", w.values, v.values)
		}
	})
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		text, pattern string
		want          bool
	}{
		{"", "", true}, {"", "*", true}, {"", "?", false}, {"a", "", false}, {"abc", "a*c", true}, {"abc", "a?c", true},
		{"abbc", "a?c", false}, {"aXbXc", "*X*c", true}, {strings.Repeat("a", 5000), strings.Repeat("a*", 50) + "b", false},
	} {
		if got := matches(c.text, c.pattern); got != c.want {
			t.Errorf("%.20q against %.20q: %v", c.text, c.pattern, got)
		}
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	write(t, path, "Host *\n  Port many\n")
	_, err := Resolve(t.Context(), Local{}, []File{{Path: path}}, Query{Host: "h"})
	if err == nil || !strings.Contains(err.Error(), path+" line 2") {
		t.Errorf("the error does not say where: %v", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(t.Context(), Local{}, []File{{Path: path}}, Query{Host: "h"}); err == nil || !strings.Contains(err.Error(), "others may write") {
		t.Errorf("a file that others may write to: %v", err)
	}
}

func TestWhatIsNotSupportedIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	for config, want := range map[string]string{
		"Host h\n CanonicalizeHostname yes":                     "CanonicalizeHostname yes is not supported",
		"CanonicalizeHostname always":                           "CanonicalizeHostname always is not supported",
		"Match localnetwork 192.0.2.0/24\n User u":              "Match localnetwork is not supported",
		"Host h\n CanonicalizeHostname no":                      "",
		"Host other\n CanonicalizeHostname yes\nHost h\nPort 5": "",
	} {
		write(t, path, config+"\n")
		_, err := Resolve(t.Context(), Local{}, []File{{Path: path}}, Query{Host: "h"})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", config, err, want)
		}
	}
}

func TestDuration(t *testing.T) {
	v := &Values{values: map[string][]string{}}
	for in, want := range map[string]float64{"90": 90, "1m30": 90, "1m30s": 90, "2H": 7200, "1d": 86400, "none": 0, "0": 0} {
		v.values["connecttimeout"] = []string{in}
		if d, err := v.Duration("connecttimeout"); err != nil || d.Seconds() != want {
			t.Errorf("%s: %s, %v", in, d, err)
		}
	}
	for _, in := range []string{"m", "1x", "-1", "1 m", "99999999999"} {
		v.values["connecttimeout"] = []string{in}
		if d, err := v.Duration("connecttimeout"); err == nil {
			t.Errorf("%s: %s", in, d)
		}
	}
}
