package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/cli/browser"
	"github.com/mdp/qrterminal/v3"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/identity/oidcclient"
)

// codeEvent is the first line of a sign-in.
type codeEvent struct {
	Event         string     `json:"event"`
	SchemaVersion int        `json:"schemaVersion"`
	Issuer        string     `json:"issuer"`
	URL           string     `json:"url"`
	CompleteURL   string     `json:"completeURL,omitempty"` // with the code in it
	UserCode      string     `json:"userCode"`
	Expires       *time.Time `json:"expires,omitempty"`
}

// showCode tells the person what to do, or a script what its person has to.
func (f *Factory) showCode(code oidcclient.Code, issuer string, open bool) error {
	e := codeEvent{Event: "code", SchemaVersion: 1, Issuer: issuer, URL: code.URL, CompleteURL: code.CompleteURL, UserCode: code.UserCode}
	if !code.Expiry.IsZero() {
		e.Expires = &code.Expiry
	}
	if !f.TextOutput() {
		return f.event(e, nil)
	}
	f.printCode(code, open)
	return nil
}

// printCode is for a person, whatever the command's result is for.
func (f *Factory) printCode(code oidcclient.Code, open bool) {
	complete := cmp.Or(code.CompleteURL, code.URL)
	if f.ErrTerminal {
		qrterminal.GenerateWithConfig(complete, qrterminal.Config{Level: qrterminal.L, Writer: f.Err, HalfBlocks: true, QuietZone: 2,
			BlackChar: qrterminal.BLACK_BLACK, WhiteChar: qrterminal.WHITE_WHITE, BlackWhiteChar: qrterminal.BLACK_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK})
	}
	fmt.Fprintf(f.Err, "To sign in, open  %s\nand enter the code  %s\n", printable(code.URL), printable(code.UserCode))
	if code.CompleteURL != "" {
		fmt.Fprintf(f.Err, "or open           %s\n", printable(code.CompleteURL))
	}
	if !code.Expiry.IsZero() {
		fmt.Fprintf(f.Err, "The code is good for %s.\n", time.Until(code.Expiry).Round(time.Second))
	}
	if open && f.ErrTerminal && f.graphical() {
		f.openBrowser(complete)
	}
}

// openBrowser waits for nothing: some browsers end only when they are closed.
func (f *Factory) openBrowser(url string) {
	browser.Stdout, browser.Stderr = io.Discard, io.Discard
	log := f.Log()
	go func() {
		if err := browser.OpenURL(url); err != nil {
			log.Debug("no browser was opened", "op", "login", "error", err)
		}
	}()
}

// event prints one of several results of a command: in JSON each on a line of
// its own, in YAML each a document.
func (f *Factory) event(v any, text func(io.Writer) error) error {
	switch f.global.output {
	case outputJSON:
		return json.NewEncoder(f.Out).Encode(v)
	case outputYAML:
		data, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = f.Out.Write(append(bytes.Clone([]byte("---\n")), data...))
		return err
	}
	return text(f.Out)
}
