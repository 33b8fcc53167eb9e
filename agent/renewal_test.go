package agent_test

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/broker/presence"
	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
	"github.com/nationtech/fleetctl/internal/wire"
)

// tokens counts the different ones that a source gave.
type tokens struct {
	credential.Source
	seen map[credential.Secret]bool // used by one test's agent, and read when that has ended
	turn chan struct{}
}

func (s *tokens) Credential(ctx context.Context) (credential.Credential, error) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	c, err := s.Source.Credential(ctx)
	if err == nil {
		s.seen[c.Token] = true
	}
	return c, err
}

// TestRenewalCutsNothing: a session goes on, both ways and without a byte lost
// or out of order, over several tokens that end while it runs.
func TestRenewalCutsNothing(t *testing.T) {
	const lasts, goesOn = 8 * time.Second, 20 * time.Second
	issuer := issuertest.Start(t)
	issuer.Clock.Advance(-time.Hour + lasts) // its tokens last an hour
	f := newFleetOf(t, "127.0.0.1", issuer)
	// As in production, where two connections of a device are one too many.
	if _, err := presence.Start(t.Context(), must(f.broker.ConnectPresence())(t), slog.New(slog.DiscardHandler), presence.Options{}); err != nil {
		t.Fatal(err)
	}
	client := issuer.HTTPClient()
	client.Transport = lasting{client.Transport, lasts}
	source := &tokens{seen: map[credential.Secret]bool{}, turn: make(chan struct{}, 1), Source: credential.NewOIDC(credential.OIDCConfig{
		Issuer: issuer.URL, Project: issuer.ProjectID, File: issuer.Machine("device-"+deviceID, role.Device), HTTPClient: client,
	})}
	p := &typist{puppet: puppet{ended: make(chan error, 1)}}
	r := &running{other: p, identity: source, ready: make(chan struct{})}
	f.runAs(t.TempDir(), r)
	f.await("a report", func(s wire.DeviceState) bool { return s.Device == deviceID })

	ctx, cancel := context.WithTimeout(t.Context(), goesOn+patience)
	defer cancel()
	input := make(chan wire.StreamInput)
	var sent uint64
	go func() {
		defer close(input)
		for end := time.Now().Add(goesOn); time.Now().Before(end); sent++ {
			select {
			case input <- wire.StreamInput{Data: binary.BigEndian.AppendUint64(nil, sent)}:
			case <-ctx.Done():
				return
			}
		}
		select {
		case input <- wire.StreamInput{End: true}:
		case <-ctx.Done():
		}
	}()
	// The echo comes back as a count that has to go up by one each time.
	echo, in := io.Pipe()
	counted := make(chan uint64, 1)
	go func() {
		var n uint64
		word := make([]byte, 8)
		for ; ; n++ {
			if _, err := io.ReadFull(echo, word); err != nil {
				break
			}
			if got := binary.BigEndian.Uint64(word); got != n {
				t.Errorf("word %d is %d", n, got)
				break
			}
		}
		_ = echo.Close()
		counted <- n
	}()
	err := commands.NewSender(f.api, signer{f}).Session(ctx, request(wire.VerbForward, `{"deployment":"web","port":80}`), input,
		func(data []byte) error { _, err := in.Write(data); return err })
	_ = in.Close()
	if got := <-counted; err != nil || got != sent {
		t.Errorf("%d of %d words came back: %v", got, sent, err)
	}
	r.stop()
	if n := len(source.seen); n < 3 {
		t.Errorf("%d tokens in %s: this test shows nothing", n, goesOn)
	} else {
		t.Logf("%d words over %d tokens", sent, n)
	}
}
