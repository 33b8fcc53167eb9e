package cli

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/nationtech/fleetctl/hostcfg/sshhost"
)

// sshFlags are the flags of every command that reaches hosts over SSH.
type sshFlags struct {
	keys              []string
	knownHosts        []string
	acceptNew         bool
	sudoPasswordStdin bool
}

func (s *sshFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&s.keys, "ssh-key", nil, "private key `file` to log in with; repeatable")
	flags.StringArrayVar(&s.knownHosts, "known-hosts", nil, "known_hosts `file` to use instead of the configured ones")
	flags.BoolVar(&s.acceptNew, "accept-new-host-key", false, "trust the key of a host that was never seen before without being asked")
	flags.BoolVar(&s.sudoPasswordStdin, "sudo-password-stdin", false, "read the sudo password from stdin")
}

// options gives what sshhost needs of this machine: the person's SSH
// configuration, agent and keys, and a way to ask.
func (s *sshFlags) options(f *Factory) (sshhost.Options, error) {
	me, err := user.Current()
	if err != nil {
		return sshhost.Options{}, fmt.Errorf("find out who runs this: %w", err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return sshhost.Options{}, fmt.Errorf("find this machine's name: %w", err)
	}
	asker := &sshAsker{factory: f, acceptNew: s.acceptNew}
	if s.sudoPasswordStdin {
		if asker.sudoPassword, err = readSecretLine(f.In); err != nil {
			return sshhost.Options{}, usageError(fmt.Errorf("--sudo-password-stdin: %w", err), "pipe the password, one line, into fleetctl")
		}
	}
	return sshhost.Options{
		ConfigFiles:   []string{filepath.Join(me.HomeDir, ".ssh", "config")},
		SystemConfig:  "/etc/ssh/ssh_config",
		KnownHosts:    s.knownHosts,
		IdentityFiles: s.keys,
		AgentSocket:   f.SSHAgentSocket(),
		Home:          me.HomeDir,
		LocalUser:     me.Username,
		LocalUID:      me.Uid,
		LocalHostname: hostname,
		LookupEnv:     os.LookupEnv,
		Asker:         asker,
		Log:           f.Log(),
	}, nil
}
