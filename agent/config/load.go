package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Load reads and validates the file at path. Every fault is in the error, one
// a line, with its line number where the file's text is at fault.
func Load(path string, uid int) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, hint.Wrap(fmt.Errorf("read configuration: %w", err), "fleetctl onboard writes this file; name another with --config")
	}
	c, err := Parse(data, Default(uid))
	if err != nil {
		return Config{}, hint.Wrap(fmt.Errorf("configuration %s:\n%w", path, err), "fleet-agent check-config --config "+path)
	}
	return c, nil
}

// Parse decodes data over defaults and validates the outcome.
func Parse(data []byte, defaults Config) (Config, error) {
	c := defaults
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(&c)

	var unknown *toml.StrictMissingError
	if err != nil && !errors.As(err, &unknown) {
		return Config{}, located(err) // what follows the fault was not read: validating would mislead
	}
	if c.Podman.Socket == "" {
		c.Podman.Socket = defaults.Podman.Socket
	}
	var faults []error
	if unknown != nil {
		for i := range unknown.Errors {
			line, _ := unknown.Errors[i].Position()
			faults = append(faults, fmt.Errorf("line %d: unknown key %q", line, strings.Join(unknown.Errors[i].Key(), ".")))
		}
	}
	if err := errors.Join(append(faults, c.Validate())...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// located puts the line before a decoding error's text.
func located(err error) error {
	var decode *toml.DecodeError
	if !errors.As(err, &decode) {
		return err
	}
	line, column := decode.Position()
	text := strings.TrimPrefix(decode.Error(), "toml: ")
	if key := strings.Join(decode.Key(), "."); key != "" {
		text = fmt.Sprintf("key %q: %s", key, text)
	}
	return fmt.Errorf("line %d, column %d: %s", line, column, text)
}
