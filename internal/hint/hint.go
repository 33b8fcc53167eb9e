// Package hint carries what a person needs beside an error's text: the next
// thing to type, and the exit code that a script can branch on. It owns those
// two fields and nothing else; printing them is internal/cli's affair.
package hint

import "errors"

// Exit codes of every command; part of the command line's contract.
const (
	CodeFailed      = 1   // anything without a code of its own
	CodeUsage       = 2   // bad flag, argument or input
	CodeChanges     = 3   // --plan found changes
	CodeDeclined    = 4   // the person said no, or a question had no terminal
	CodeUnreachable = 5   // host or server did not answer
	CodeAuth        = 6   // host or server refused our identity
	CodeInterrupted = 130 // SIGINT or SIGTERM
	codeUnset       = 0
)

// Error is an error with a hint, an exit code, or both.
type Error struct {
	Err  error
	Hint string // one line, imperative: the next thing to type or check
	Code int    // exit code; 0 means that none was chosen
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the error that the hint belongs to.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error with a hint.
func New(msg, hint string) error { return &Error{Err: errors.New(msg), Hint: hint} }

// Wrap adds a hint to err. A nil err stays nil.
func Wrap(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err, Hint: hint}
}

// WithCode sets the exit code that err leads to. A nil err stays nil.
func WithCode(err error, code int) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err, Code: code}
}

// Of returns the outermost hint in err's chain, or "".
func Of(err error) string {
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Hint != "" {
			return e.Hint
		}
	}
	return ""
}

// Code returns the outermost exit code in err's chain: 0 for nil, CodeFailed
// when none was chosen.
func Code(err error) int {
	if err == nil {
		return 0
	}
	for e := (*Error)(nil); errors.As(err, &e); err = e.Err {
		if e.Code != codeUnset {
			return e.Code
		}
	}
	return CodeFailed
}
