package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/nationtech/fleetctl/internal/deviceconfig"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Validate reports every fault at once.
func (c *Config) Validate() error {
	var errs []error
	fault := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", key, fmt.Errorf(format, args...)))
	}
	filePath := func(key, value string, required bool) {
		switch {
		case value == "" && required:
			fault(key, "is missing")
		case value != "" && (!path.IsAbs(value) || path.Clean(value) != value):
			fault(key, "%q is no clean absolute path", value)
		}
	}

	if err := wire.ValidateDeviceID(c.DeviceID); err != nil {
		fault("device_id", "%w", err)
	}
	filePath("state_dir", c.StateDir, true)
	if len(c.NATS.URLs) == 0 {
		fault("nats.urls", "is missing; give at least one, like \"tls://fleet.example.com:4222\"")
	}
	for _, u := range c.NATS.URLs {
		if err := checkNATSURL(u); err != nil {
			fault("nats.urls", "%w", err)
		}
	}
	if wss := func(u string) bool { return strings.HasPrefix(u, "wss:") }; slices.ContainsFunc(c.NATS.URLs, wss) &&
		slices.ContainsFunc(c.NATS.URLs, func(u string) bool { return !wss(u) }) {
		fault("nats.urls", "mixes wss:// with others, which the NATS client cannot")
	}
	filePath("nats.ca_file", c.NATS.CAFile, false)
	switch c.Credentials.Type {
	case CredentialOIDC:
		if err := checkIssuer(c.Credentials.Issuer); err != nil {
			fault("credentials.issuer", "%w", err)
		}
		if c.Credentials.Project == "" {
			fault("credentials.project", "is missing")
		}
		filePath("credentials.ca_file", c.Credentials.CAFile, false)
	case CredentialPSK:
	default:
		fault("credentials.type", "%q is not known; this agent knows \"oidc\" and \"psk\"", c.Credentials.Type)
	}
	filePath("credentials.file", c.Credentials.File, true)
	filePath("credentials.signing_keys_file", c.Credentials.SigningKeysFile, true)
	if err := wire.ValidateLabels(c.Labels); err != nil {
		fault("labels", "%w", err)
	}
	filePath("podman.socket", c.Podman.Socket, c.Podman.Enabled)
	for _, r := range c.Podman.InsecureRegistries {
		if !isRegistryHost(r) {
			fault("podman.insecure_registries", "%q is not HOST or HOST:PORT (no scheme, no path)", r)
		}
	}
	if err := deviceconfig.CheckMetricsListen(c.Metrics.Listen); err != nil {
		fault("metrics.listen", "%w", err)
	}
	return errors.Join(errs...)
}

func checkNATSURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q: %w", s, errors.New("is no URL"))
	case u.User != nil:
		return fmt.Errorf("a URL with credentials in it (host %q); they belong into credentials.file", u.Host)
	case u.Hostname() == "" || u.Port() == "" || !validPort(u.Port()):
		return fmt.Errorf("%q has no HOST:PORT", s)
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q has something after HOST:PORT", s)
	case u.Scheme == "tls", u.Scheme == "wss": // a websocket, where only port 443 gets out
		return nil
	case u.Scheme == "nats" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "nats":
		return fmt.Errorf("%q is plaintext, which is for loopback only; write tls://%s", s, u.Host)
	}
	return fmt.Errorf("%q has scheme %q; use tls:// or wss://", s, u.Scheme)
}

func checkIssuer(s string) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return errors.New("is missing; like \"https://fleet.example.com:8443\"")
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("is no plain URL; like \"https://fleet.example.com:8443\"") // it may hold a password
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q has scheme %q; use https://", s, u.Scheme)
}

var registryHost = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?$`)

func isRegistryHost(s string) bool {
	m := registryHost.FindStringSubmatch(s)
	return m != nil && (m[3] == "" || validPort(m[3][1:]))
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
