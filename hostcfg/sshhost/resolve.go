package sshhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/nationtech/fleetctl/hostcfg/sshhost/sshconfig"
	"github.com/nationtech/fleetctl/internal/hint"
)

// maxJumps ends a configuration in which jump hosts are reached through
// each other.
const maxJumps = 8

// resolve finds the route to a target: its jump hosts and itself.
func resolve(ctx context.Context, t Target, o *Options) ([]*endpoint, error) {
	route, err := o.route(ctx, t, "", 0)
	if err != nil {
		return nil, hint.WithCode(fmt.Errorf("%s: %w", t, err), hint.CodeUsage)
	}
	last := route[len(route)-1]
	var given []identity
	for _, f := range o.IdentityFiles {
		given = append(given, identity{path: f})
	}
	last.identities = append(given, last.identities...)
	return route, nil
}

// route follows ProxyJump as ssh does: jumps is what the command line said,
// which for the last of several jump hosts is the ones before it; where that
// is nothing, each jump host's own configuration counts.
func (o *Options) route(ctx context.Context, t Target, jumps string, depth int) ([]*endpoint, error) {
	if depth > maxJumps {
		return nil, hint.New(fmt.Sprintf("more than %d jump hosts, or jump hosts that are reached through each other", maxJumps),
			"look at what ssh -G says about each for proxyjump")
	}
	v, err := o.lookUp(ctx, t)
	if err != nil {
		return nil, err
	}
	e, err := o.endpoint(v)
	if err != nil {
		return nil, err
	}
	if jumps == "" {
		jumps = v.Get("proxyjump")
	}
	if jumps == "" || strings.EqualFold(jumps, "none") {
		return []*endpoint{e}, nil
	}
	e.proxyCommand = ""
	before, last := "", jumps
	if i := strings.LastIndexByte(jumps, ','); i >= 0 {
		before, last = jumps[:i], jumps[i+1:]
	}
	hop, err := ParseTarget(last)
	if err != nil {
		return nil, fmt.Errorf("ProxyJump: %w", err)
	}
	if strings.EqualFold(hop.Host, t.Host) && hop.Port == t.Port && hop.User == t.User {
		return nil, fmt.Errorf("ProxyJump: %s is its own jump host", t)
	}
	route, err := o.route(ctx, hop, before, depth+1)
	if err != nil {
		return nil, err
	}
	return append(route, e), nil
}

// lookUp asks the configuration about a target.
func (o *Options) lookUp(ctx context.Context, t Target) (*sshconfig.Values, error) {
	q := sshconfig.Query{Host: t.Host, User: t.User}
	if t.Port != 0 {
		q.Port = strconv.Itoa(t.Port)
	}
	var files []sshconfig.File
	for _, f := range o.ConfigFiles {
		files = append(files, sshconfig.File{Path: f})
	}
	if o.SystemConfig != "" {
		files = append(files, sshconfig.File{Path: o.SystemConfig, System: true})
	}
	local := sshconfig.Local{
		User: o.LocalUser, UID: o.LocalUID, Home: o.Home, Hostname: o.LocalHostname, LookupEnv: o.LookupEnv,
		Exec: func(ctx context.Context, command string) bool {
			return exec.CommandContext(ctx, "/bin/sh", "-c", command).Run() == nil
		},
	}
	v, err := sshconfig.Resolve(ctx, local, files, q)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("read the SSH configuration: %w", err), "see what ssh -G "+shellWord(t.Host)+" says")
	}
	return v, nil
}

// endpoint turns options into what a connection is made with.
func (o *Options) endpoint(v *sshconfig.Values) (*endpoint, error) {
	port, err := strconv.ParseUint(v.Port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number from 1 to 65535", v.Port)
	}
	e := &endpoint{
		user: v.User, host: v.Hostname, port: int(port),
		hostKeyAlias: v.Get("hostkeyalias"), hashKnownHosts: isYes(v.Get("hashknownhosts")),
		identitiesOnly: isYes(v.Get("identitiesonly")),
		noKeys:         isNo(v.Get("pubkeyauthentication")), noPassword: isNo(v.Get("passwordauthentication")),
		noInteractive: isNo(v.Get("kbdinteractiveauthentication")),
		timeout:       o.DialTimeout, keepAlive: o.KeepAlive, agentSocket: o.AgentSocket,
	}
	if e.user == "" {
		return nil, hint.New("no login name", "write it before the host: user@"+v.Host)
	}
	for _, set := range []func(*endpoint, *sshconfig.Values) error{o.setTimes, o.setHostKeys, o.setIdentities, setProxyCommand} {
		if err := set(e, v); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func isYes(s string) bool { return strings.EqualFold(s, "yes") || strings.EqualFold(s, "true") }
func isNo(s string) bool  { return strings.EqualFold(s, "no") || strings.EqualFold(s, "false") }

func (o *Options) setTimes(e *endpoint, v *sshconfig.Values) error {
	connect, err := v.Duration("connecttimeout")
	if err != nil {
		return err
	}
	if connect > 0 {
		e.timeout = connect
	}
	alive, err := v.Duration("serveraliveinterval")
	if alive > 0 {
		e.keepAlive = alive
	}
	return err
}

func (o *Options) setHostKeys(e *endpoint, v *sshconfig.Values) error {
	switch s := strings.ToLower(v.Get("stricthostkeychecking")); s {
	case "", "ask":
		e.strict = strictAsk
	case "yes", "true":
		e.strict = strictYes
	case "no", "false", "off", "accept-new":
		e.strict = strictNo
	default:
		return fmt.Errorf("StrictHostKeyChecking %q is not yes, no, ask or accept-new", s)
	}
	user, global := v.List("userknownhostsfile"), v.List("globalknownhostsfile")
	if len(user) == 0 {
		user = []string{"~/.ssh/known_hosts", "~/.ssh/known_hosts2"}
	}
	if len(global) == 0 && o.SystemConfig != "" {
		global = []string{"/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"}
	}
	var err error
	if e.globalKnownHosts, err = paths(v, global); err != nil {
		return fmt.Errorf("GlobalKnownHostsFile: %w", err)
	}
	if len(o.KnownHosts) > 0 {
		e.knownHosts = o.KnownHosts
		return nil
	}
	if e.knownHosts, err = paths(v, user); err != nil {
		return fmt.Errorf("UserKnownHostsFile: %w", err)
	}
	return nil
}

// paths expands file names; "none" stands for no file.
func paths(v *sshconfig.Values, names []string) ([]string, error) {
	var list []string
	for _, n := range names {
		if strings.EqualFold(n, "none") {
			continue
		}
		p, err := v.Path(n)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func (o *Options) setIdentities(e *endpoint, v *sshconfig.Values) error {
	files, err := paths(v, v.List("identityfile"))
	if err != nil {
		return fmt.Errorf("IdentityFile: %w", err)
	}
	for _, f := range files {
		e.identities = append(e.identities, identity{path: f})
	}
	if len(v.List("identityfile")) == 0 {
		e.identities = defaultIdentities(o.Home)
	}
	if e.certificates, err = paths(v, v.List("certificatefile")); err != nil {
		return fmt.Errorf("CertificateFile: %w", err)
	}
	switch s := v.Get("identityagent"); {
	case s == "" || s == "SSH_AUTH_SOCK":
	case strings.EqualFold(s, "none"):
		e.agentSocket = ""
	case strings.HasPrefix(s, "$"):
		if o.LookupEnv == nil {
			return errors.New("IdentityAgent: there is no environment to look in")
		}
		e.agentSocket, _ = o.LookupEnv(s[1:])
	default:
		if e.agentSocket, err = v.Path(s); err != nil {
			return fmt.Errorf("IdentityAgent: %w", err)
		}
	}
	return nil
}

func setProxyCommand(e *endpoint, v *sshconfig.Values) error {
	command := v.Get("proxycommand")
	if command == "" || strings.EqualFold(command, "none") {
		return nil
	}
	var err error
	if e.proxyCommand, err = v.Tokens().Expand(command); err != nil {
		return fmt.Errorf("ProxyCommand: %w", err)
	}
	return nil
}

// Resolved is what the configuration makes of a target, for showing.
type Resolved struct {
	Address    string   // host:port that is connected to
	User       string   // login
	Jumps      []string // user@host:port of each jump host, in order
	Identities []string // key files, in the order in which they are tried
}

// Resolve says how a target would be reached, without reaching it.
func Resolve(ctx context.Context, t Target, o Options) (Resolved, error) {
	o = o.withDefaults()
	route, err := resolve(ctx, t, &o)
	if err != nil {
		return Resolved{}, err
	}
	last := route[len(route)-1]
	r := Resolved{Address: net.JoinHostPort(last.host, strconv.Itoa(last.port)), User: last.user}
	for _, e := range route[:len(route)-1] {
		r.Jumps = append(r.Jumps, e.name())
	}
	for _, id := range last.identities {
		if !slices.Contains(r.Identities, id.path) {
			r.Identities = append(r.Identities, id.path)
		}
	}
	return r, nil
}
