package sshconfig

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Local is what configuration can refer to on this side.
type Local struct {
	User     string // login name
	UID      string
	Home     string
	Hostname string
	// LookupEnv reads a variable, like os.LookupEnv; nil is an empty environment.
	LookupEnv func(string) (string, bool)
	// Exec runs the command of a Match exec and says whether it succeeded;
	// nil means that it never does.
	Exec func(ctx context.Context, command string) bool
}

// Query is the host that is asked about, as given on a command line.
type Query struct {
	Host string
	User string // "" is not given
	Port string // "" is not given
}

// File is a configuration file. Relative Includes of a system file are in
// /etc/ssh, those of a person's in ~/.ssh.
type File struct {
	Path   string
	System bool
}

// Values are what the files say about a host.
type Values struct {
	Host     string // as asked for
	Hostname string // what to connect to: HostName with %h replaced, in lower case
	User     string
	Port     string

	local  Local
	values map[string][]string
}

// accumulating options take every value and not just the first.
var accumulating = map[string]bool{"identityfile": true, "certificatefile": true}

// synonyms are older names of options.
var synonyms = map[string]string{
	"identityfile2":                   "identityfile",
	"challengeresponseauthentication": "kbdinteractiveauthentication",
	"skeyauthentication":              "kbdinteractiveauthentication",
	"tisauthentication":               "kbdinteractiveauthentication",
	"dsaauthentication":               "pubkeyauthentication",
}

// verbatim options have all of the line as their value.
var verbatim = map[string]bool{"proxycommand": true, "proxyjump": true, "localcommand": true, "remotecommand": true, "knownhostscommand": true}

// Resolve reads files, which need not exist, in order of precedence.
func Resolve(ctx context.Context, local Local, files []File, q Query) (*Values, error) {
	v := &Values{Host: q.Host, local: local, values: map[string][]string{}}
	if q.User != "" {
		v.values["user"] = []string{q.User}
	}
	if q.Port != "" {
		v.values["port"] = []string{q.Port}
	}
	r := &reader{ctx: ctx, values: v, host: q.Host}
	if err := r.readAll(files); err != nil {
		return nil, err
	}
	if err := v.finish(q.Host); err != nil {
		return nil, err
	}
	if c := v.Get("canonicalizehostname"); c != "" && !strings.EqualFold(c, "no") && !strings.EqualFold(c, "false") {
		return nil, fmt.Errorf("CanonicalizeHostname %s is not supported for %s: names are not completed by asking the DNS; "+
			"give the full name as HostName and put CanonicalizeHostname no first", c, q.Host)
	}
	if r.wantsFinal {
		// Match final: all is read once more, for the host that was found.
		v.values["hostname"] = []string{v.Hostname}
		final := &reader{ctx: ctx, values: v, host: v.Hostname, final: true}
		if err := final.readAll(files); err != nil {
			return nil, err
		}
		if err := v.finish(v.Hostname); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// finish works out the fields from the values.
func (v *Values) finish(host string) error {
	name := host
	if h := v.Get("hostname"); h != "" {
		var err error
		if name, err = (Tokens{'h': host}).Expand(h); err != nil {
			return fmt.Errorf("HostName: %w", err)
		}
	}
	v.Hostname = name
	if net.ParseIP(name) == nil {
		v.Hostname = strings.ToLower(name)
	}
	if a := v.Get("hostkeyalias"); a != "" {
		v.values["hostkeyalias"] = []string{strings.ToLower(a)}
	}
	v.User, v.Port = v.local.User, "22"
	if u := v.Get("user"); u != "" {
		v.User = u
	}
	if p := v.Get("port"); p != "" {
		v.Port = p
	}
	return nil
}

// Get is the first word of an option's value, "" when it is not set. Names
// are in lower case.
func (v *Values) Get(name string) string {
	if l := v.values[name]; len(l) > 0 {
		return l[0]
	}
	return ""
}

// List is all of an option's words: of the first value, or of all values for
// the options of which every one counts (IdentityFile, CertificateFile).
func (v *Values) List(name string) []string { return v.values[name] }

// Tokens are those that paths and commands may have.
func (v *Values) Tokens() Tokens {
	short, _, _ := strings.Cut(v.local.Hostname, ".")
	alias := v.Get("hostkeyalias")
	if alias == "" {
		alias = v.Host
	}
	jump := v.Get("proxyjump")
	return Tokens{
		'C': connectionHash(v.local.Hostname, v.Hostname, v.Port, v.User, jump),
		'd': v.local.Home, 'h': v.Hostname, 'i': v.local.UID, 'j': jump, 'k': alias, 'L': short,
		'l': v.local.Hostname, 'n': v.Host, 'p': v.Port, 'r': v.User, 'u': v.local.User,
	}
}

// Path expands a leading ~, tokens and ${VARIABLES} in a file name.
func (v *Values) Path(s string) (string, error) {
	s, err := ExpandEnv(v.local.tilde(s), v.local.LookupEnv)
	if err != nil {
		return "", err
	}
	return v.Tokens().Expand(s)
}

func (l Local) tilde(s string) string {
	if s == "~" {
		return l.Home
	}
	if rest, ok := strings.CutPrefix(s, "~/"); ok {
		return filepath.Join(l.Home, rest)
	}
	return s
}

// checkOwner refuses a file that others could write to: what is in it runs
// commands.
func checkOwner(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others may write to it (mode %04o)", info.Mode().Perm())
	}
	return nil
}
