package sshhost

import "path/filepath"

// resolve finds the route to a target: its jump hosts and itself.
func resolve(t Target, o *Options) ([]*endpoint, error) {
	e := &endpoint{
		user: t.User, host: t.Host, port: t.Port,
		knownHosts: o.KnownHosts, agentSocket: o.AgentSocket,
		timeout: o.DialTimeout, keepAlive: o.KeepAlive,
	}
	if e.user == "" {
		e.user = o.LocalUser
	}
	if e.port == 0 {
		e.port = 22
	}
	if len(e.knownHosts) == 0 {
		e.knownHosts = []string{filepath.Join(o.Home, ".ssh", "known_hosts")}
	}
	for _, f := range o.IdentityFiles {
		e.identities = append(e.identities, identity{path: f})
	}
	if len(e.identities) == 0 {
		e.identities = defaultIdentities(o.Home)
	}
	return []*endpoint{e}, nil
}
