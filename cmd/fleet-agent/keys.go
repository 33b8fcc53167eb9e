package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"

	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/secretfile"
)

// keyOptions are of the subcommands that onboarding runs as root.
type keyOptions struct{ dir, user string }

func (o *keyOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.dir, "dir", devicekey.Dir, "directory of the keys")
	flags.StringVar(&o.user, "user", "fleet-agent", "account that the keys are for")
}

func keygenAction(flags *flag.FlagSet) action {
	var o keyOptions
	o.register(flags)
	rotate := flags.Bool("rotate", false, "make an identity key to replace the one in use")
	sealing := flags.Bool("rotate-sealing", false, "make a sealing key to replace the one in use")
	replace := flags.Bool("replace-all", false, "make all keys anew: those that are there are another device's")
	show := flags.Bool("show", false, "make nothing")
	return func(stdout, _ io.Writer) error {
		store, err := o.store()
		if err != nil {
			return err
		}
		var keys devicekey.Public
		switch {
		case *show:
			keys, err = store.Show()
		case *replace:
			keys, err = store.Replace()
		default:
			keys, err = store.Make(*rotate)
			if err == nil && *sealing {
				keys, err = store.MakeSealing()
			}
		}
		return printPublic(stdout, keys, err)
	}
}

func bindKeyAction(flags *flag.FlagSet) action {
	var o keyOptions
	o.register(flags)
	user := flags.String("user-id", "", "the issuer's id of this device's user")
	key := flags.String("key-id", "", "the issuer's id of the key")
	sealing := flags.Bool("sealing", false, "use the sealing key that keygen --rotate-sealing made; an identity is left alone")
	return func(stdout, _ io.Writer) error {
		store, err := o.store()
		if err != nil {
			return err
		}
		if *sealing {
			keys, err := store.UseSealing()
			return printPublic(stdout, keys, err)
		}
		keys, err := store.Bind(*user, *key)
		return printPublic(stdout, keys, err)
	}
}

// store is for another account when root runs this, else for the caller.
func (o keyOptions) store() (devicekey.Store, error) {
	owner := secretfile.Owner{UID: os.Getuid(), GID: os.Getgid()}
	if owner.UID == 0 {
		account, err := user.Lookup(o.user)
		if err != nil {
			return devicekey.Store{}, hint.Wrap(fmt.Errorf("find the account that the keys are for: %w", err), "fleetctl onboard makes it; name another with --user")
		}
		uid, uidErr := strconv.Atoi(account.Uid)
		gid, gidErr := strconv.Atoi(account.Gid)
		if uidErr != nil || gidErr != nil {
			return devicekey.Store{}, fmt.Errorf("account %s has no numeric ids", o.user)
		}
		owner = secretfile.Owner{UID: uid, GID: gid}
	}
	return devicekey.Store{Dir: o.dir, Owner: owner}, nil
}

func printPublic(w io.Writer, keys devicekey.Public, err error) error {
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(keys)
}
