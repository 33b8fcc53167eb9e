package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/agent/disk"
	"github.com/nationtech/fleetctl/internal/wire"
)

// How many commands are carried out at the same time; another one is refused.
// Forwarded connections count apart: a browser opens several for one page.
const (
	maxCommands    = 8
	maxConnections = 32
)

// handler carries out one verb and writes the answer's data.
type handler func(ctx context.Context, c wire.Command, out io.Writer) error

// handlers are the verbs that this agent knows.
func (a *Agent) handlers() map[wire.Verb]handler {
	verbs := map[wire.Verb]handler{
		wire.VerbPing: func(context.Context, wire.Command, io.Writer) error { return nil },
	}
	maps.Copy(verbs, a.handHandlers())
	maps.Copy(verbs, a.sessionHandlers())
	maps.Copy(verbs, a.stopHandlers())
	return verbs
}

// subscribe asks for hints and commands.
func (a *Agent) subscribe(ctx context.Context) error {
	// A hint says "look again" and nothing else: whoever made it up made the
	// agent look at what is signed.
	hint := func(string, []byte) { signal(a.look) }
	if err := a.link.Subscribe(wire.HintSubject(a.cfg.Device), hint); err != nil {
		return err
	}
	verbs := a.handlers()
	quick, long := make(chan struct{}, maxCommands), make(chan struct{}, maxCommands)
	connections := make(chan struct{}, maxConnections)
	return a.link.Subscribe(wire.CommandSubject(a.cfg.Device, "*"), func(subject string, data []byte) {
		places := long
		switch subject {
		case wire.CommandSubject(a.cfg.Device, string(wire.VerbPing)):
			places = quick // followed logs take no place of a ping
		case wire.CommandSubject(a.cfg.Device, string(wire.VerbForward)):
			places = connections
		}
		a.command(ctx, subject, data, verbs, places)
	})
}

// command checks a command and has it carried out. Whose sender cannot be
// known is not answered; a refusal that the control plane can act on is.
func (a *Agent) command(ctx context.Context, subject string, data []byte, verbs map[wire.Verb]handler, places chan struct{}) {
	verb := wire.Verb(subject[strings.LastIndexByte(subject, '.')+1:])
	log := a.log.With("op", "command", "verb", verb)
	var c wire.Command
	if err := a.keys.open(wire.KindCommand, data, &c); err != nil {
		log.Warn("command refused", "error", err, "reason", wire.RefusalOf(err))
		if errors.Is(err, wire.ErrUnknownKey) {
			signal(a.look) // beside the manifest are the keys that follow ours
		}
		return
	}
	now, err := a.timely(&c, verb)
	if err != nil {
		log.Warn("command refused", "error", err, "reason", wire.RefusalOf(err))
		if errors.Is(err, wire.ErrExpired) || errors.Is(err, wire.ErrTooLong) {
			a.reply(c, &wire.ReplyError{Code: wire.ReplyRefused, Message: fmt.Sprintf("%v (to the device it is %s)", err, now.UTC().Format(time.RFC3339))})
		}
		return
	}
	switch verb { // seeing one of these again does nothing more: their nonces need no memory
	case wire.VerbStream:
		a.streams.control(c.Body)
		return
	case wire.VerbInput:
		a.streams.input(c.Body)
		return
	}
	if err := a.nonces.Use(c.Nonce, c.Expires, now); err != nil {
		log.Warn("command refused", "error", err, "reason", wire.RefusalOf(err))
		if !errors.Is(err, disk.ErrReplayed) { // that one has its answer
			a.reply(c, &wire.ReplyError{Code: wire.ReplyRefused, Message: err.Error()})
		}
		return
	}
	handle, known := verbs[verb]
	if !known {
		a.reply(c, &wire.ReplyError{Code: wire.ReplyUnknownVerb, Message: fmt.Sprintf("agent %s does not know %q", a.cfg.Version, verb)})
		return
	}
	select {
	case places <- struct{}{}:
	default:
		a.reply(c, &wire.ReplyError{Code: wire.ReplyRefused, Message: "too many commands are under way"})
		return
	}
	s := a.open(ctx, c)
	go func() {
		defer func() { <-places }()
		a.carryOut(c, s, handle)
	}()
}

// timely checks a command by the fleet's clock where that is known, since the
// machine's own may be wrong: behind, it would let a broker that lies keep a
// command until long after its expiry. It gives the time that it went by.
func (a *Agent) timely(c *wire.Command, verb wire.Verb) (now time.Time, err error) {
	if a.cfg.FleetTime == nil {
		now = time.Now()
		return now, c.Validate(a.cfg.Device, verb, now)
	}
	now = a.cfg.FleetTime()
	if err = c.Validate(a.cfg.Device, verb, now); !errors.Is(err, wire.ErrTooLong) {
		return now, err
	}
	// The machine slept, and what it knows of the fleet's time did not go on
	// meanwhile: then its own clock may know better.
	if own := time.Now(); c.Validate(a.cfg.Device, verb, own) == nil {
		return own, nil
	}
	return now, err
}

// reply answers with the one message of a command that is not carried out.
func (a *Agent) reply(c wire.Command, failure *wire.ReplyError) {
	r := wire.Reply{SchemaVersion: wire.SchemaVersion, Done: true, Error: failure}
	if err := a.link.Send(wire.ReplySubject(a.cfg.Device, c.Nonce), mustJSON(r)); err != nil {
		a.log.Warn("command not answered", "op", "command", "verb", c.Verb, "error", err)
	}
}
