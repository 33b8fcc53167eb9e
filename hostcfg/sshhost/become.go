package sshhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"golang.org/x/crypto/ssh"
)

// How long the far side may take. Login shells with heavy rc files are slow
// on small boards; sudo answers a wrong password after about two seconds.
const (
	bootTimeout   = 30 * time.Second
	sudoTimeout   = 4500 * time.Millisecond
	promptQuiet   = 300 * time.Millisecond
	maxQuotedTail = 500
)

// elevation is how a shell came to be root's, as hostcfg.Elevator words it.
type elevation string

const (
	asRoot     elevation = "root"
	bySudo     elevation = "sudo"
	byPassword elevation = "sudo with password"
)

// becomeRoot opens a root shell on client. password is asked for only when
// sudo wants one, and by its caller's rule only once.
func becomeRoot(ctx context.Context, client *ssh.Client, password func(context.Context) (secret, error)) (*shell, error) {
	s, err := openSession(client, bootstrap, newMarker(), false)
	if err != nil {
		return nil, err
	}
	why, err := s.arrive(ctx)
	if err == nil && why == "" {
		return s, nil
	}
	if err == nil {
		err = refusal(why)
	}
	if errors.Is(err, errNeedsTerminal) {
		s.stop() // first: the server may allow one session only
		if s, err = openSession(client, ptyBootstrap, newMarker(), true); err != nil {
			return nil, err
		}
		if why, err = s.arrive(ctx); err == nil && why == "" {
			return s, nil
		}
		if err == nil {
			err = errNeedsPassword
		}
	}
	if errors.Is(err, errNeedsPassword) {
		if err = s.givePassword(ctx, password); err == nil {
			return s, nil
		}
	}
	s.stop()
	return nil, err
}

// arrive waits for the loop's greeting, or for the bootstrap to say that it
// could not become root: then why is what sudo printed.
func (s *shell) arrive(ctx context.Context) (why string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, fmt.Errorf("no shell within %s", bootTimeout))
	defer cancel()
	_, word, err := s.out.line(ctx, s.marker+" at ")
	if err != nil {
		return "", s.noShell(err)
	}
	noise, _, err := s.errors().line(ctx, s.marker+" up")
	if err != nil {
		return "", s.noShell(err)
	}
	if login, ok := strings.CutPrefix(word, "hello 0"); ok {
		s.how = asRoot
		if login != "" {
			s.how = bySudo
		}
		return "", nil
	}
	if said := strings.TrimSpace(string(noise)); said != "" {
		return said, nil
	}
	return word, nil
}

// noShell explains a session that ended before the far side's shell greeted.
func (s *shell) noShell(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("the login shell ended at once")
	}
	said := strings.TrimSpace(s.out.tail(maxQuotedTail) + "\n" + s.err.tail(maxQuotedTail))
	if said != "" {
		err = fmt.Errorf("%w; it said: %s", err, said)
	}
	return hint.Wrap(fmt.Errorf("start a shell: %w", err), "check that the login has a shell: ssh to the host and run: sh -c 'echo ok'")
}

var (
	errNeedsPassword = errors.New("sudo needs a password")
	errNeedsTerminal = errors.New("sudo needs a terminal")
)

// refusal classifies what sudo printed in the C locale.
func refusal(said string) error {
	is := func(texts ...string) bool {
		for _, t := range texts {
			if strings.Contains(said, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is("must have a tty", "no tty present"):
		return errNeedsTerminal
	case is("password is required", "authentication is required"):
		return errNeedsPassword
	case is("not found", "No such file", "ask 127"):
		return coded("sudo is not installed and the login is not root", "log in as root, or install sudo on the host")
	case is("not in the sudoers file", "may not run sudo", "not allowed to"):
		return coded("the login may not use sudo: "+lastLine(said), "add the login to the group that sudo accepts (Debian: usermod -aG sudo LOGIN), or log in as root")
	}
	return coded("sudo refused: "+said, "run sudo on the host and see what it says")
}

func coded(msg, next string) error {
	return hint.WithCode(hint.New(msg, next), hint.CodeAuth)
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// givePassword answers sudo's question, once. The password is sent only after
// sudo was seen to ask: the loop would take it for a request.
func (s *shell) givePassword(ctx context.Context, password func(context.Context) (secret, error)) error {
	pw, err := password(ctx)
	if err != nil {
		return err
	}
	if strings.ContainsAny(string(pw), "\n\r\x00") {
		return coded("the sudo password has a line break or NUL in it", "give the password only")
	}
	line := withPassword
	if s.merged {
		line = withPasswordPiped
	}
	if err := s.write([]byte(line + "\n")); err != nil {
		return fmt.Errorf("start sudo: %w", err)
	}
	from := s.errors()
	ctx, cancel := context.WithTimeoutCause(ctx, sudoTimeout, fmt.Errorf("sudo did not answer within %s", sudoTimeout))
	defer cancel()
	asked, seen := 0, 0
	for {
		var state sudoState
		var err error
		state, seen, err = s.sudoState(ctx, from, asked, seen)
		switch {
		case err != nil:
			return fmt.Errorf("sudo: %w; it said: %s", err, s.sudoSaid(from))
		case state == sudoIn:
			_, err := s.arrive(ctx)
			s.how = byPassword
			return err
		case state == sudoOut:
			return refusalAfterPassword(s.sudoSaid(from), asked)
		case asked == 1:
			return coded("sudo: wrong password", "run again and give the password of the login, not of root")
		}
		asked++
		if err := s.write([]byte(string(pw) + "\n")); err != nil {
			return fmt.Errorf("answer sudo: %w", err)
		}
	}
}

// sudoSaid is what sudo printed, without our marker.
func (s *shell) sudoSaid(from *stream) string {
	return strings.TrimSpace(strings.NewReplacer(s.marker+" prompt", "", s.marker+" out", "").Replace(from.tail(maxQuotedTail)))
}

func refusalAfterPassword(said string, asked int) error {
	if asked > 0 && (said == "" || strings.Contains(said, "incorrect password") || strings.Contains(said, "Sorry, try again")) {
		return coded("sudo: wrong password", "run again and give the password of the login, not of root")
	}
	if err := refusal(said); !errors.Is(err, errNeedsPassword) && !errors.Is(err, errNeedsTerminal) {
		return err
	}
	return coded("sudo refused: "+said, "run sudo on the host and see what it says")
}

type sudoState int

const (
	sudoAsks sudoState = iota
	sudoIn
	sudoOut
)

// sudoState waits until sudo asks once more than it has, lets us in, or ends.
// A PAM module may put its own prompt in place of ours: then text without a
// newline at its end, followed by silence, is a question. seen is how much of
// the text was there at the question before.
func (s *shell) sudoState(ctx context.Context, from *stream, asked, seen int) (sudoState, int, error) {
	quiet := time.NewTimer(promptQuiet)
	defer quiet.Stop()
	settled := false
	for {
		text, changed, ended := from.pending()
		out, outChanged, _ := s.out.pending()
		foreign := settled && len(text) > seen && text[len(text)-1] != '\n'
		switch {
		case strings.Contains(string(out), "\n"+s.marker+" at hello"):
			return sudoIn, 0, nil
		case strings.Contains(string(text), "\n"+s.marker+" out"):
			return sudoOut, 0, nil
		case strings.Count(string(text), s.marker+" prompt") > asked, foreign:
			return sudoAsks, len(text), nil
		case ended != nil:
			return 0, 0, ended
		}
		settled = false
		select {
		case <-changed:
			quiet.Reset(promptQuiet)
		case <-outChanged:
			quiet.Reset(promptQuiet)
		case <-quiet.C:
			settled = true
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		}
	}
}
