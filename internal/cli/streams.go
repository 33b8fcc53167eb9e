package cli

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"
)

// Streams are a command's input and outputs. The rules: results go to Out,
// everything else (progress, logs, questions, errors) to Err; colour and live
// progress only where Err or Out is a terminal; questions only where both In
// and Err are.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	InTerminal  bool
	OutTerminal bool
	ErrTerminal bool
	NoColor     bool // https://no-color.org
}

// SystemStreams are the process' own.
func SystemStreams() Streams {
	_, noColor := os.LookupEnv("NO_COLOR")
	return Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal:  isatty.IsTerminal(os.Stdin.Fd()),
		OutTerminal: isatty.IsTerminal(os.Stdout.Fd()),
		ErrTerminal: isatty.IsTerminal(os.Stderr.Fd()),
		NoColor:     noColor || os.Getenv("TERM") == "dumb",
	}
}

// ColorOut says whether results may be coloured.
func (s Streams) ColorOut() bool { return s.OutTerminal && !s.NoColor }

// ColorErr says whether progress and messages may be coloured.
func (s Streams) ColorErr() bool { return s.ErrTerminal && !s.NoColor }

// CanAsk says whether there is a person to answer a question.
func (s Streams) CanAsk() bool { return s.InTerminal && s.ErrTerminal }
