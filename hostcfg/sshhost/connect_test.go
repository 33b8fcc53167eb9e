package sshhost_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/hostcfg/sshhost"
	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshtest"
	"github.com/nationtech/fleetctl/internal/hint"
	"golang.org/x/crypto/ssh/agent"
)

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]sshhost.Target{
		"h":                    {Host: "h"},
		"u@h":                  {User: "u", Host: "h"},
		"u@h:22":               {User: "u", Host: "h", Port: 22},
		"h:65535":              {Host: "h", Port: 65535},
		"192.0.2.7":            {Host: "192.0.2.7"},
		"2001:db8::1":          {Host: "2001:db8::1"},
		"u@2001:db8::1":        {User: "u", Host: "2001:db8::1"},
		"[2001:db8::1]":        {Host: "2001:db8::1"},
		"u@[2001:db8::1]:2222": {User: "u", Host: "2001:db8::1", Port: 2222},
		"fe80::1%eth0":         {Host: "fe80::1%eth0"},
		"ssh://u@h:2200/":      {User: "u", Host: "h", Port: 2200},
		"u@domain@h":           {User: "u@domain", Host: "h"},
		"raspberrypi.local":    {Host: "raspberrypi.local"},
	} {
		got, err := sshhost.ParseTarget(in)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", in, got, err)
		}
		if again, err := sshhost.ParseTarget(got.String()); err != nil || again != got {
			t.Errorf("%s: %s reads back as %+v, %v", in, got, again, err)
		}
	}
	for _, in := range []string{"", "@h", "u@", "h:", "h:0", "h:70000", "h:ssh", "[h]:22", "[::1", "[::1]22", "a:b:c", "-oProxyCommand=x", "u@-h", "-l@h", "h;id", "h$(id)", "a b", "h/x", "[::1]:22:23"} {
		if got, err := sshhost.ParseTarget(in); err == nil || hint.Code(err) != hint.CodeUsage || hint.Of(err) == "" {
			t.Errorf("%q: got %+v, %v", in, got, err)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"u@h:22", "[::1]:22", "ssh://h/", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := sshhost.ParseTarget(s)
		if err != nil {
			return
		}
		if again, err := sshhost.ParseTarget(got.String()); err != nil || again != got {
			t.Errorf("%q reads as %+v and back as %+v, %v", s, got, again, err)
		}
	})
}

func TestTrustOnFirstUse(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	file := r.options.KnownHosts[0]

	r.asker.trust = false
	_, err := sshhost.Dial(t.Context(), r.target, r.options)
	if hint.Code(err) != hint.CodeDeclined {
		t.Errorf("declined: code %d, %v", hint.Code(err), err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a declined key was recorded")
	}

	r.asker.trust = true
	_ = r.dial(t).Close()
	k := r.asker.keys[len(r.asker.keys)-1]
	if !strings.HasPrefix(k.Fingerprint, "SHA256:") || k.Type != "ssh-ed25519" || k.File != file {
		t.Errorf("asked about %+v", k)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("known_hosts: %v, %v", info, err)
	}

	asked := len(r.asker.keys)
	r.options.Asker = nil
	_ = r.dial(t).Close() // known now: nothing to ask
	if len(r.asker.keys) != asked {
		t.Error("asked again about a known key")
	}

	other := sshtest.NewServer(t, sshtest.Config{Password: "p"})
	r.target = target(t, other.Addr)
	_, err = sshhost.Dial(t.Context(), r.target, r.options)
	if hint.Code(err) != hint.CodeDeclined || hint.Of(err) == "" {
		t.Errorf("nobody to ask: code %d, %v", hint.Code(err), err)
	}
}

func TestChangedHostKeyStops(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	_ = r.dial(t).Close()
	file := r.options.KnownHosts[0]
	line, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	imposter := sshtest.NewServer(t, sshtest.Config{Password: "p"})
	_, port, _ := net.SplitHostPort(imposter.Addr)
	_, old, _ := net.SplitHostPort(r.Addr)
	before := []byte("# a comment\n" + strings.Replace(string(line), ":"+old, ":"+port, 1) + strings.Replace(string(line), "[127.0.0.1]:"+old, "127.0.0.1", 1))
	if err := os.WriteFile(file, before, 0o600); err != nil {
		t.Fatal(err)
	}
	r.target = target(t, imposter.Addr)
	_, err = sshhost.Dial(t.Context(), r.target, r.options)
	if hint.Code(err) != hint.CodeAuth || !strings.Contains(err.Error(), file+" line 2") {
		t.Errorf("code %d: %v", hint.Code(err), err)
	}
	if h := hint.Of(err); !strings.Contains(h, "ssh-keygen -f "+file+" -R '[127.0.0.1]:"+port+"'") {
		t.Errorf("hint %q", h)
	}
	if after, _ := os.ReadFile(file); string(after) != string(before) {
		t.Errorf("known_hosts was changed to %q", after)
	}
	if n := len(r.asker.keys); n != 1 {
		t.Errorf("asked %d times; a changed key is no question", n)
	}
}

func TestHashedKnownHosts(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	config := filepath.Join(r.dir, "config")
	if err := os.WriteFile(config, []byte("HashKnownHosts yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.options.ConfigFiles = []string{config}
	_ = r.dial(t).Close()
	text, err := os.ReadFile(r.options.KnownHosts[0])
	if err != nil || !strings.HasPrefix(string(text), "|1|") || strings.Contains(string(text), "127.0.0.1") {
		t.Errorf("known_hosts is %q, %v", text, err)
	}
	r.options.Asker = nil
	_ = r.dial(t).Close()
}

func TestWaysToAuthenticate(t *testing.T) {
	keyDir := t.TempDir()
	locked, lockedPub := newKeyFile(t, keyDir, "locked", "open sesame")
	for _, c := range []struct {
		name    string
		server  sshtest.Config
		answers map[sshhost.QuestionKind][]string
		keys    []string
		asked   int
		code    int // 0 is success
	}{
		{name: "password", server: sshtest.Config{Password: "p"}, answers: map[sshhost.QuestionKind][]string{sshhost.Password: {"p"}}, asked: 1},
		{name: "password, the second time", server: sshtest.Config{Password: "p"}, answers: map[sshhost.QuestionKind][]string{sshhost.Password: {"no", "p"}}, asked: 2},
		{name: "wrong password", server: sshtest.Config{Password: "p"}, answers: map[sshhost.QuestionKind][]string{sshhost.Password: {"a", "b", "c", "d"}}, asked: 3, code: hint.CodeAuth},
		{name: "keyboard-interactive", server: sshtest.Config{Interactive: [][2]string{{"Password: ", "p"}, {"Code: ", "123"}}}, answers: map[sshhost.QuestionKind][]string{sshhost.Interactive: {"p", "123"}}, asked: 2},
		{name: "encrypted key", server: sshtest.Config{AuthorizedKeys: keysOf(lockedPub)}, keys: []string{locked}, answers: map[sshhost.QuestionKind][]string{sshhost.Passphrase: {"open sesame"}}, asked: 1},
		{name: "encrypted key, mistyped", server: sshtest.Config{AuthorizedKeys: keysOf(lockedPub)}, keys: []string{locked}, answers: map[sshhost.QuestionKind][]string{sshhost.Passphrase: {"x", "open sesame"}}, asked: 2},
		{name: "encrypted key, wrong passphrase", server: sshtest.Config{AuthorizedKeys: keysOf(lockedPub)}, keys: []string{locked}, answers: map[sshhost.QuestionKind][]string{sshhost.Passphrase: {"x", "y", "z"}}, asked: 3, code: hint.CodeAuth},
		{name: "encrypted key that the server does not want", server: sshtest.Config{AuthorizedKeys: keysOf(sshtest.NewKey(t).PublicKey())}, keys: []string{locked}, code: hint.CodeAuth},
		{name: "no answer", server: sshtest.Config{Password: "p"}, asked: 1, code: hint.CodeDeclined},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sshtest.NewServer(t, c.server)
			a := &asker{trust: true, answers: c.answers}
			h, err := sshhost.Dial(t.Context(), target(t, s.Addr), sshhost.Options{
				Home: t.TempDir(), LocalUser: "tester", Asker: a, IdentityFiles: c.keys,
			})
			if hint.Code(err) != c.code || (err != nil && c.code == hint.CodeAuth && hint.Of(err) == "") {
				t.Errorf("code %d, want %d: %v (hint %q)", hint.Code(err), c.code, err, hint.Of(err))
			}
			if len(a.asked) != c.asked {
				t.Errorf("asked %+v, want %d questions", a.asked, c.asked)
			}
			if err == nil {
				s.Cut()
				within(t, 10*time.Second, "reconnected without a question", func() bool { return h.Reconnect(t.Context()) == nil })
				if len(a.asked) != c.asked {
					t.Errorf("reconnecting asked %+v", a.asked[c.asked:])
				}
				_ = h.Close()
			}
		})
	}
}

func TestAgent(t *testing.T) {
	ring := agent.NewKeyring()
	wrong, right := newPrivateKey(t), newPrivateKey(t)
	for _, k := range []any{&wrong, &right} {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c); _ = c.Close() }()
		}
	}()
	s := sshtest.NewServer(t, sshtest.Config{AuthorizedKeys: keysOf(publicOf(t, right))})
	dir := t.TempDir()
	o := sshhost.Options{Home: dir, LocalUser: "tester", Asker: &asker{trust: true}, AgentSocket: socket}
	h, err := sshhost.Dial(t.Context(), target(t, s.Addr), o)
	if err != nil {
		t.Fatal(err)
	}
	_ = h.Close()

	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte("IdentitiesOnly yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.ConfigFiles = []string{config}
	if _, err := sshhost.Dial(t.Context(), target(t, s.Addr), o); hint.Code(err) != hint.CodeAuth {
		t.Errorf("IdentitiesOnly: the agent's key was used: %v", err)
	}
}

func TestProxyJumpOfTwoHops(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	first := newRig(t, sshtest.Config{})
	second := newRig(t, sshtest.Config{})
	config := filepath.Join(r.dir, "config")
	_, p1, _ := net.SplitHostPort(first.Addr)
	_, p2, _ := net.SplitHostPort(second.Addr)
	_, p3, _ := net.SplitHostPort(r.Addr)
	text := strings.NewReplacer("K1", first.options.IdentityFiles[0], "K2", second.options.IdentityFiles[0],
		"P1", p1, "P2", p2, "P3", p3).Replace(`Host target
  Port P3
  ProxyJump second
Host second
  Port P2
  IdentityFile K2
  ProxyJump first
Host first
  Port P1
  IdentityFile K1
Host *
  HostName 127.0.0.1
`)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.options.ConfigFiles, r.target = []string{config}, sshhost.Target{Host: "target"}
	dials := 0
	r.options.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	h := r.dial(t)
	if out := run(t, h, "echo through"); string(out.Stdout) != "through\n" {
		t.Errorf("got %q", out.Stdout)
	}
	if dials != 1 || first.Connections() != 1 || second.Connections() != 1 || r.Connections() != 1 {
		t.Errorf("%d connections from here, then %d, %d, %d", dials, first.Connections(), second.Connections(), r.Connections())
	}
	resolved, err := sshhost.Resolve(t.Context(), r.target, r.options)
	if err != nil || len(resolved.Jumps) != 2 || resolved.Jumps[0] != "tester@127.0.0.1:"+p1 {
		t.Errorf("resolved to %+v, %v", resolved, err)
	}
}

func TestProxyJumpLoop(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	if err := os.WriteFile(config, []byte("Host a\nProxyJump b\nHost b\nProxyJump a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := sshhost.Dial(t.Context(), sshhost.Target{Host: "a"}, sshhost.Options{Home: dir, LocalUser: "x", ConfigFiles: []string{config}})
	if err == nil || hint.Of(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestProxyCommand(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	config := filepath.Join(r.dir, "config")
	host, port, _ := net.SplitHostPort(r.Addr)
	text := "Host alias\nHostName " + host + "\nPort " + port + "\nProxyCommand bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3; kill $!'\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.options.ConfigFiles, r.target = []string{config}, sshhost.Target{Host: "alias"}
	h := r.dial(t)
	if out := run(t, h, "echo through"); string(out.Stdout) != "through\n" {
		t.Errorf("got %q", out.Stdout)
	}
}

func TestSilentServerTimesOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, err = sshhost.Dial(t.Context(), target(t, l.Addr().String()), sshhost.Options{Home: t.TempDir(), LocalUser: "x", DialTimeout: 200 * time.Millisecond})
	if hint.Code(err) != hint.CodeUnreachable || !strings.Contains(err.Error(), "200ms") {
		t.Errorf("code %d: %v", hint.Code(err), err)
	}
}

func TestKeepAliveNoticesADeadHost(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	p := sshtest.NewProxy(t, r.Addr, 0)
	r.target = target(t, p.Addr)
	r.options.KeepAlive = time.Second // long enough for who is there to answer
	h := r.dial(t)
	run(t, h, "true")
	p.Freeze()
	_, err := h.Run(t.Context(), hostcfg.Command{Script: "true", Timeout: 20 * time.Second})
	if hint.Code(err) != hint.CodeUnreachable || !strings.Contains(err.Error(), "keepalive") {
		t.Errorf("code %d: %v", hint.Code(err), err)
	}
}

func TestReconnectAfterTheConnectionIsCut(t *testing.T) {
	r := newRig(t, sshtest.Config{})
	h := r.dial(t)
	run(t, h, "true")
	r.Cut()
	if _, err := h.Run(t.Context(), hostcfg.Command{Script: "true"}); hint.Code(err) != hint.CodeUnreachable {
		t.Errorf("code %d: %v", hint.Code(err), err)
	}
	if err := h.Reconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := run(t, h, "echo back"); string(out.Stdout) != "back\n" {
		t.Errorf("got %q", out.Stdout)
	}

	r.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := h.Reconnect(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a host that stays away: %v", err)
	}
}
