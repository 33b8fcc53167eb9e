package sshconfig

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// agreementCases are configurations with what is asked of them. {dir} is a
// directory of the test's with the files a.conf and b.conf in it.
var agreementCases = []struct {
	name, config, host, user, port string
}{
	{name: "empty", host: "h"},
	{name: "only a comment", config: "# nothing\n\n   \t\n  # more", host: "h"},
	{name: "upper-case host", host: "EXAMPLE.Org"},
	{name: "plain Host", config: "Host h\n  User u\n  Port 2222", host: "h"},
	{name: "other Host", config: "Host h\n  User u", host: "i"},
	{name: "options before any Host", config: "User u\nHost h\nPort 1", host: "h"},
	{name: "first value wins", config: "Host h\nUser a\nHost *\nUser b\nPort 9", host: "h"},
	{name: "user of the command line wins", config: "Host h\nUser a", host: "h", user: "me"},
	{name: "port of the command line wins", config: "Host h\nPort 9", host: "h", port: "7"},
	{name: "HostName", config: "Host h\nHostName real.example.org", host: "h"},
	{name: "HostName with a token", config: "Host h\nHostName %h.example.org", host: "h"},
	{name: "HostName with a percent sign", config: "Host h\nHostName a%%b", host: "h"},
	{name: "HostName is lower-cased", config: "Host h\nHostName Real.EXAMPLE.org", host: "h"},
	{name: "HostName is an IPv6 address", config: "Host h\nHostName 2001:DB8::1", host: "h"},
	{name: "star", config: "Host *.example.org\nUser u", host: "a.b.example.org"},
	{name: "star needs the dot", config: "Host *.example.org\nUser u", host: "example.org"},
	{name: "question mark", config: "Host web?\nUser u", host: "web1"},
	{name: "question mark needs a character", config: "Host web?\nUser u", host: "web"},
	{name: "several stars", config: "Host *a*b*\nUser u", host: "xxaxxbxx"},
	{name: "several patterns", config: "Host x h y\nUser u", host: "h"},
	{name: "negation", config: "Host * !h\nUser u", host: "h"},
	{name: "negation of another", config: "Host * !i\nUser u", host: "h"},
	{name: "negation first", config: "Host !h *\nUser u", host: "h"},
	{name: "only a negation", config: "Host !i\nUser u", host: "h"},
	{name: "negated pattern", config: "Host *.org !*.example.org\nUser u", host: "a.example.org"},
	{name: "Host is case-sensitive", config: "Host H\nUser u", host: "h"},
	{name: "upper-case argument", config: "Host h\nUser u", host: "H"},
	{name: "equals sign", config: "Host=h\nUser=u\nPort = 44\nHostName =real", host: "h"},
	{name: "quotes", config: "Host \"h\"\nUser \"u v\"\nIdentityFile \"/a b/c\"", host: "h"},
	{name: "single quotes and escapes", config: "IdentityFile '/a b/c'\nIdentityFile /a\\ b/d\nIdentityFile \"/q\\\"r\"", host: "h"},
	{name: "comment behind a value", config: "User u # that one\nPort 5 #x", host: "h"},
	{name: "number sign in a word", config: "User u#1", host: "h"},
	{name: "tabs and trailing blanks", config: "\tHost\th\t \n\t\tUser\tu  \t", host: "h"},
	{name: "carriage returns", config: "Host h\r\nUser u\r\n", host: "h"},
	{name: "keywords in any case", config: "hOST h\nuSER u\nIDENTITIESONLY yes", host: "h"},
	{name: "several IdentityFiles", config: "Host h\nIdentityFile ~/a\nIdentityFile ~/b\nHost *\nIdentityFile ~/c\nIdentityFile ~/a", host: "h"},
	{name: "IdentityFile with tokens", config: "IdentityFile ~/.ssh/%r@%h-%n-%p-%u", host: "h"},
	{name: "IdentityFile none", config: "IdentityFile none", host: "h"},
	{name: "IdentitiesOnly", config: "Host h\nIdentitiesOnly yes\nIdentityAgent none", host: "h"},
	{name: "IdentityAgent", config: "IdentityAgent ~/agent.sock", host: "h"},
	{name: "CertificateFile", config: "CertificateFile /c1\nCertificateFile /c2", host: "h"},
	{name: "ProxyJump", config: "Host h\nProxyJump bastion", host: "h"},
	{name: "ProxyJump of several hops", config: "Host h\nProxyJump a,u@b:2200,ssh://c:99", host: "h"},
	{name: "ProxyJump none", config: "Host h\nProxyJump none\nHost *\nProxyJump b", host: "h"},
	{name: "ProxyJump before ProxyCommand", config: "ProxyJump b\nProxyCommand nc %h %p", host: "h"},
	{name: "ProxyCommand before ProxyJump", config: "ProxyCommand nc %h %p\nProxyJump b", host: "h"},
	{name: "ProxyCommand none before ProxyJump", config: "ProxyCommand none\nProxyJump b", host: "h"},
	{name: "ProxyCommand with quotes", config: "ProxyCommand sh -c \"nc '%h' %p\" # not a comment", host: "h"},
	{name: "ProxyCommand with an equals sign", config: "ProxyCommand=nc -x a=b %h %p", host: "h"},
	{name: "HostKeyAlias", config: "HostKeyAlias Other", host: "h"},
	{name: "UserKnownHostsFile", config: "UserKnownHostsFile /a ~/b \"/c d\"", host: "h"},
	{name: "UserKnownHostsFile with tokens", config: "UserKnownHostsFile ~/.ssh/known/%h-%k-%p", host: "h"},
	{name: "UserKnownHostsFile none", config: "UserKnownHostsFile none", host: "h"},
	{name: "StrictHostKeyChecking", config: "StrictHostKeyChecking accept-new", host: "h"},
	{name: "StrictHostKeyChecking off", config: "StrictHostKeyChecking off", host: "h"},
	{name: "times", config: "ConnectTimeout 1m30\nServerAliveInterval 2h", host: "h"},
	{name: "ServerAliveInterval", config: "ServerAliveInterval 30\nServerAliveCountMax 5", host: "h"},
	{name: "HashKnownHosts", config: "HashKnownHosts yes", host: "h"},
	{name: "old name", config: "ChallengeResponseAuthentication no\nPasswordAuthentication no", host: "h"},
	{name: "Match all", config: "Match all\nUser u", host: "h"},
	{name: "Match not all", config: "Match !all\nUser u", host: "h"},
	{name: "Match host", config: "Match host h,i\nUser u", host: "i"},
	{name: "Match host with a pattern", config: "Match host *.org,!a.*\nUser u", host: "b.org"},
	{name: "Match host negated in the list", config: "Match host *.org,!a.*\nUser u", host: "a.org"},
	{name: "Match not host", config: "Match !host h\nUser u", host: "i"},
	{name: "Match host sees HostName", config: "Host h\nHostName real\nMatch host real\nUser u", host: "h"},
	{name: "Match host no longer sees the name given", config: "Host h\nHostName real\nMatch host h\nUser u", host: "h"},
	{name: "Match host in upper case", config: "Match host H\nUser u", host: "h"},
	{name: "Match originalhost", config: "Host h\nHostName real\nMatch originalhost h\nUser u", host: "h"},
	{name: "Match user", config: "Match user me\nPort 5", host: "h", user: "me"},
	{name: "Match user sees User", config: "User x\nMatch user x\nPort 5", host: "h"},
	{name: "Match user of this side", config: "Match user {me}\nPort 5", host: "h"},
	{name: "Match localuser", config: "Match localuser {me}\nPort 5\nMatch localuser nobody\nUser u", host: "h"},
	{name: "Match with two criteria", config: "Match host h user me\nPort 5", host: "h", user: "me"},
	{name: "Match with one that fails", config: "Match host h user you\nPort 5", host: "h", user: "me"},
	{name: "Match with equals signs", config: "Match host=h user=me\nPort 5", host: "h", user: "me"},
	{name: "Match exec true", config: "Match exec true\nUser u", host: "h"},
	{name: "Match exec false", config: "Match exec \"exit 1\"\nUser u", host: "h"},
	{name: "Match not exec", config: "Match !exec false\nUser u", host: "h"},
	{name: "Match exec with tokens", config: "Match exec \"test %h = h -a %n = h -a %p = 22\"\nUser u", host: "h"},
	{name: "Match final", config: "Match final\nUser u", host: "h"},
	{name: "Match final host sees HostName of later lines", config: "Match final host real\nUser u\nHost h\nHostName real", host: "h"},
	{name: "Match not final", config: "Match !final\nUser u", host: "h"},
	{name: "Host sees HostName in the second pass", config: "Host real\nPort 5\nHost h\nHostName real\nMatch final all\nUser u", host: "h"},
	{name: "Match canonical without a second pass", config: "Match canonical\nUser u", host: "h"},
	{name: "Match canonical with one", config: "Match canonical all\nUser u\nMatch final\nPort 5", host: "h"},
	{name: "Match final collects IdentityFiles", config: "IdentityFile /a\nMatch final\nIdentityFile /b", host: "h"},
	{name: "Match with a comment", config: "Match host h # or so\nUser u", host: "h"},
	{name: "Include", config: "Include {dir}/a.conf\nPort 5", host: "h"},
	{name: "Include with a glob", config: "Include {dir}/*.conf", host: "h"},
	{name: "Include of two", config: "Include {dir}/b.conf {dir}/a.conf", host: "h"},
	{name: "Include of nothing", config: "Include {dir}/none*.conf\nUser u", host: "h"},
	{name: "Include in a Host that matches", config: "Host h\nInclude {dir}/a.conf\nPort 5", host: "h"},
	{name: "Include in a Host that does not", config: "Host i\nInclude {dir}/a.conf\nHost *\nPort 5", host: "h"},
	{name: "a Host of an Include ends with it", config: "Include {dir}/a.conf\nCompression yes\nPort 6", host: "z"},
	{name: "Match inside an Include that is off", config: "Match host i\nInclude {dir}/b.conf", host: "h"},
	{name: "bad port", config: "Port many", host: "h"},
	{name: "open quote", config: "User \"u", host: "h"},
	{name: "no value", config: "User", host: "h"},
	{name: "bad criterion", config: "Match colour red\nUser u", host: "h"},
	{name: "Match all with another", config: "Match all host h\nUser u", host: "h"},
	{name: "Match without criteria", config: "Match\nUser u", host: "h"},
	{name: "unknown token in HostName", config: "HostName %z", host: "h"},
	{name: "Include of itself", config: "Include {dir}/config", host: "h"},
}

// compared are the options that fleetctl uses.
var compared = []string{
	"hostname", "user", "port", "identityfile", "certificatefile", "identitiesonly", "identityagent",
	"proxyjump", "proxycommand", "hostkeyalias", "userknownhostsfile", "stricthostkeychecking",
	"serveraliveinterval", "serveralivecountmax", "connecttimeout", "hashknownhosts",
	"passwordauthentication", "kbdinteractiveauthentication", "pubkeyauthentication",
}

func TestAgreesWithSSH(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no OpenSSH client to compare with")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	local := Local{User: me.Username, UID: me.Uid, Home: me.HomeDir, Exec: func(ctx context.Context, c string) bool {
		return exec.CommandContext(ctx, "/bin/sh", "-c", c).Run() == nil
	}}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.conf"), "User from-a\nHost z\nPort 77\nHost h\nIdentityFile /from-a\n")
	write(t, filepath.Join(dir, "b.conf"), "Match host h\nUser from-b\nMatch all\nIdentityFile /from-b\n")
	for _, c := range agreementCases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "config")
			write(t, path, strings.NewReplacer("{dir}", dir, "{me}", me.Username).Replace(c.config)+"\n")
			args := []string{"-G", "-F", path}
			if c.user != "" {
				args = append(args, "-l", c.user)
			}
			if c.port != "" {
				args = append(args, "-p", c.port)
			}
			var stderr bytes.Buffer
			cmd := exec.Command(ssh, append(args, c.host)...)
			cmd.Stderr = &stderr
			out, sshErr := cmd.Output()
			v, err := Resolve(t.Context(), local, []File{{Path: path}}, Query{Host: c.host, User: c.user, Port: c.port})
			if (err != nil) != (sshErr != nil) {
				t.Fatalf("ssh: %v %s; here: %v", sshErr, stderr.Bytes(), err)
			}
			if err != nil {
				return
			}
			want := parseDump(string(out))
			for _, name := range compared {
				if got := dump(v, name); got != want[name] {
					t.Errorf("%s: got %q, ssh has %q", name, got, want[name])
				}
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// parseDump reads ssh -G: values of a repeated name are joined with commas.
func parseDump(text string) map[string]string {
	m := map[string]string{}
	for _, l := range strings.Split(text, "\n") {
		name, value, _ := strings.Cut(l, " ")
		if old, ok := m[name]; ok {
			value = old + "," + value
		}
		m[name] = value
	}
	return m
}

// dump prints an option as ssh -G does.
func dump(v *Values, name string) string {
	orElse := func(d string) string {
		if s := v.Get(name); s != "" {
			return s
		}
		return d
	}
	boolean := func(s string) string {
		return map[string]string{"true": "yes", "false": "no"}[s] + map[string]string{"yes": "yes", "no": "no"}[s]
	}
	switch name {
	case "hostname":
		return v.Hostname
	case "user":
		return v.User
	case "port":
		return v.Port
	case "identityfile":
		if l := v.List(name); len(l) > 0 {
			return strings.Join(l, ",")
		}
		return "~/.ssh/id_rsa,~/.ssh/id_ecdsa,~/.ssh/id_ecdsa_sk,~/.ssh/id_ed25519,~/.ssh/id_ed25519_sk,~/.ssh/id_xmss,~/.ssh/id_dsa"
	case "certificatefile":
		return strings.Join(v.List(name), ",")
	case "identityagent":
		p, err := v.Path(orElse(""))
		if err != nil {
			return err.Error()
		}
		return p
	case "userknownhostsfile":
		list := v.List(name)
		if len(list) == 0 {
			list = []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}
		}
		var paths []string
		for _, f := range list {
			p, err := v.Path(f)
			if err != nil {
				return err.Error()
			}
			paths = append(paths, p)
		}
		return strings.Join(paths, " ")
	case "serveraliveinterval", "connecttimeout":
		d, err := v.Duration(name)
		switch {
		case err != nil:
			return err.Error()
		case v.Get(name) == "" && name == "connecttimeout":
			return "none"
		}
		return strconv.Itoa(int(d.Seconds()))
	case "serveralivecountmax":
		return orElse("3")
	case "stricthostkeychecking":
		return strings.NewReplacer("off", "false", "yes", "true").Replace(orElse("ask"))
	case "proxyjump", "proxycommand":
		if s := orElse(""); s != "none" {
			return strings.ReplaceAll(s, "ssh://", "")
		}
		return ""
	case "identitiesonly", "hashknownhosts":
		return boolean(orElse("no"))
	case "passwordauthentication", "kbdinteractiveauthentication":
		return boolean(orElse("yes"))
	case "pubkeyauthentication":
		return strings.NewReplacer("yes", "true", "no", "false").Replace(orElse("yes"))
	}
	return orElse("")
}
