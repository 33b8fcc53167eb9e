package onboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/devicekey"
)

// Identities is the issuer's part in making a device. Every call can be made
// again.
type Identities interface {
	// Good says whether a key is good for tokens of the device. userID and keyID
	// are what the device believes; no error means that both are as the
	// issuer has them, and ErrNoIdentity that they are not. It is ErrOthersKey
	// when the key is another user's: the device is a copy of another one.
	Good(ctx context.Context, device, userID, keyID string) error
	// Register gives the device an account and makes a public key (PEM) good
	// for tokens of it.
	Register(ctx context.Context, device, publicKey string) (Identity, error)
	// Prune ends all other keys of the account.
	Prune(ctx context.Context, i Identity) error
}

// ErrNoIdentity says why a device cannot get tokens; its text is for people.
var ErrNoIdentity = errors.New("the issuer has no such identity")

// ErrOthersKey is an ErrNoIdentity of a device that has another one's keys.
var ErrOthersKey = fmt.Errorf("%w: the keys are of another device", ErrNoIdentity)

// Identity is a device's key, as the issuer knows it.
type Identity struct {
	UserID string
	KeyID  string
	// KeyFile is set when the issuer made the pair itself: the whole key file.
	KeyFile Secret
}

// lookAtKeys asks the host for the public halves of the keys it has. A host
// that is no device has none, and so has one whose agent is too old to know.
func lookAtKeys(ctx context.Context, h hostcfg.Host) (devicekey.Public, error) {
	script := "[ ! -x " + Binary + " ] || " + Binary + " keygen --show 2>/dev/null || true"
	r, err := h.Run(ctx, hostcfg.Command{Script: script, Timeout: 30 * time.Second, ReadOnly: true})
	if err != nil {
		return devicekey.Public{}, fmt.Errorf("look at the device's keys: %w", err)
	}
	var keys devicekey.Public
	if json.Unmarshal(r.Stdout, &keys) != nil {
		return devicekey.Public{}, nil
	}
	return keys, nil
}

// keyWork is what has to happen to a device's keys.
type keyWork struct {
	Wish
	registration Registration
	enroller     Enroller
	registered   bool // the control plane has the device's sealing key
	have         devicekey.Public

	identity bool // a new identity key is needed
	copied   bool // and the other keys are not its own either
	sealing  bool // the sealing key is to be replaced
	unbound  bool // the control plane does not know its user at the issuer
}

// keysPlan is the step that makes and registers keys.
type keysPlan struct {
	hostcfg.Task
	// restart: the agent waits for these keys, or has read others. A rotation
	// needs none, since it reads its identity for each token.
	restart bool
}

// planKeys says what is to be done about the keys. It asks the issuer and
// changes nothing.
func planKeys(ctx context.Context, w keyWork) (keysPlan, error) {
	var changes []string
	restart := false
	if len(w.have.SealingKey) == 0 {
		changes = append(changes, "make the device's sealing key on it, and register the public half")
		restart = true
	} else if !w.registered {
		changes = append(changes, "register the public half of the device's sealing key")
	}
	if w.Identities != nil {
		why, err := w.lacksIdentity(ctx)
		if err != nil {
			return keysPlan{}, err
		}
		if w.identity = why != ""; w.identity {
			changes = append(changes, why)
			restart = restart || why != rotation
		} else if w.unbound, err = w.lacksSubject(ctx); err != nil {
			return keysPlan{}, err
		} else if w.unbound {
			changes = append(changes, "register the user that the device signs in as at the issuer")
		}
		if w.sealing = w.Rotate && len(w.have.SealingKey) > 0 && !w.copied; w.sealing {
			changes = append(changes, "replace the device's sealing key by a new one that it makes, and seal what it has of Secrets to that")
		}
	}
	return keysPlan{restart: restart, Task: hostcfg.Task{Name: "device-keys", Changes: changes, Timeout: 3 * time.Minute, Do: w.do,
		On: []string{hostcfg.Symlink{Path: Binary}.ID(), hostcfg.Directory{Path: ConfigDir}.ID()}}}, nil
}

const rotation = "replace the device's identity key by a new one that it makes, then end the old one"

// lacksIdentity says what is to be done for the device to have one, and "" when
// it has.
func (w *keyWork) lacksIdentity(ctx context.Context) (string, error) {
	const make = "make the device's identity key on it, and register the public half at the issuer"
	if w.have.Identity == nil {
		return make, nil
	}
	err := w.Identities.Good(ctx, w.registration.Device, w.have.Identity.UserID, w.have.Identity.KeyID)
	w.copied = errors.Is(err, ErrOthersKey)
	switch {
	case errors.Is(err, ErrNoIdentity):
		return make + ": " + err.Error(), nil
	case err != nil:
		return "", err
	case w.Rotate:
		return rotation, nil
	}
	return "", nil
}

// lacksSubject says whether the control plane is to be told which user the
// device signs in as: devices of before it kept that are not known by it.
func (w *keyWork) lacksSubject(ctx context.Context) (bool, error) {
	r := w.registration
	r.Subject = w.have.Identity.UserID
	preview, err := w.enroller.Preview(ctx, r)
	return !preview.Registered, err
}

// do makes the keys on the host, registers their public halves, and puts the
// identity into use. The key in use before stays good until the new one is in
// its place.
func (w *keyWork) do(ctx context.Context, h hostcfg.Host) error {
	keygen := Binary + " keygen"
	switch {
	case w.copied:
		keygen += " --replace-all"
	case w.identity:
		keygen += " --rotate" // no more than keygen where there is none yet
	}
	if w.sealing {
		keygen += " --rotate-sealing"
	}
	keys, err := runKeys(ctx, h, keygen)
	if err != nil {
		return fmt.Errorf("make the device's keys: %w", err)
	}
	if err := w.registerSealing(ctx, h, keys); err != nil {
		return err
	}
	if w.unbound {
		return w.registerSubject(ctx, w.have.Identity.UserID)
	}
	if !w.identity {
		return nil
	}
	if keys.Pending == nil {
		return errors.New("make the device's identity key: the device shows none; does somebody else onboard it at the same time?")
	}
	id, err := w.Identities.Register(ctx, w.registration.Device, keys.Pending.PublicKey)
	if err != nil {
		return err
	}
	// Before the key is used: its first token has to be known for the device's.
	if err := w.registerSubject(ctx, id.UserID); err != nil {
		return err
	}
	if err := use(ctx, h, id); err != nil {
		return fmt.Errorf("put the identity key into use: %w", err)
	}
	return w.Identities.Prune(ctx, id)
}

// registerSealing has the control plane seal to the device's key, and then the
// device use a new one: until it does, it opens what is sealed to either.
func (w *keyWork) registerSealing(ctx context.Context, h hostcfg.Host, keys devicekey.Public) error {
	r := w.registration
	r.SealingKey = keys.SealingKey
	if w.sealing {
		r.SealingKey = keys.NextSealingKey
	}
	if !slices.Equal(r.SealingKey, w.registration.SealingKey) || !w.registered {
		if _, err := w.enroller.Enrol(ctx, r); err != nil {
			return fmt.Errorf("register the sealing key: %w", err)
		}
	}
	if !w.sealing {
		return nil
	}
	if _, err := runKeys(ctx, h, Binary+" bind-key --sealing"); err != nil {
		return fmt.Errorf("put the sealing key into use: %w", err)
	}
	return nil
}

// registerSubject has the control plane take the tokens of a user of the issuer
// for the device's.
func (w *keyWork) registerSubject(ctx context.Context, user string) error {
	r := Registration{Device: w.registration.Device, Machine: w.registration.Machine, Subject: user}
	if _, err := w.enroller.Enrol(ctx, r); err != nil {
		return fmt.Errorf("register the device's user at the issuer: %w", err)
	}
	return nil
}

// use makes the device's next token come from the key that was registered.
func use(ctx context.Context, h hostcfg.Host, id Identity) error {
	if id.KeyFile != "" {
		return h.Put(ctx, hostcfg.Upload{Path: devicekey.IdentityFile, Content: io.Reader(strings.NewReader(string(id.KeyFile))), Owner: User, Group: User, Mode: 0o400})
	}
	_, err := runKeys(ctx, h, fmt.Sprintf("%s bind-key --user-id %s --key-id %s", Binary, quote(id.UserID), quote(id.KeyID)))
	return err
}

func runKeys(ctx context.Context, h hostcfg.Host, command string) (devicekey.Public, error) {
	r, err := h.Run(ctx, hostcfg.Command{Script: command, Timeout: time.Minute})
	if err != nil {
		return devicekey.Public{}, err
	}
	var keys devicekey.Public
	if r.ExitCode != 0 || json.Unmarshal(r.Stdout, &keys) != nil {
		return devicekey.Public{}, fmt.Errorf("exit status %d: %s", r.ExitCode, strings.TrimSpace(string(r.Stderr)))
	}
	return keys, nil
}

// quote makes one word of s for sh.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
