package config

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
)

const complete = `
device_id = "pi-1"
log_level = "debug"
state_dir = "/srv/agent"

[nats]
urls = ["tls://fleet.example.com:4222", "nats://127.0.0.1:4222"]
ca_file = "/etc/fleet-agent/ca.pem"

[credentials]
type = "psk"
file = "/etc/fleet-agent/psk"
signing_keys_file = "/etc/fleet-agent/signing-keys.json"

[labels]
"topology.example.com/site" = "lyon"

[podman]
socket = ""
insecure_registries = ["192.168.122.1:5000", "[fd00::1]:5000", "registry"]

[metrics]
listen = "127.0.0.1:9464"
`

func TestParseComplete(t *testing.T) {
	got, err := Parse([]byte(complete), Default(1234))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		DeviceID: "pi-1", LogLevel: slog.LevelDebug, StateDir: "/srv/agent",
		NATS: NATS{URLs: []string{"tls://fleet.example.com:4222", "nats://127.0.0.1:4222"}, CAFile: "/etc/fleet-agent/ca.pem"},
		Credentials: Credentials{
			Type: CredentialPSK, File: "/etc/fleet-agent/psk", SigningKeysFile: "/etc/fleet-agent/signing-keys.json",
		},
		Labels: map[string]string{"topology.example.com/site": "lyon"},
		Podman: Podman{
			Enabled: true, Socket: "/run/user/1234/podman/podman.sock",
			InsecureRegistries: []string{"192.168.122.1:5000", "[fd00::1]:5000", "registry"},
		},
		Metrics: Metrics{Listen: "127.0.0.1:9464"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

const identity = `
type = "oidc"
file = "/etc/fleet-agent/identity.json"
issuer = "https://fleet.example.com:8443"
project = "4711"
ca_file = "/etc/fleet-agent/ca.pem"
`

// withIdentity is the complete file for a device with a key of its own.
func withIdentity() string {
	return strings.Replace(complete, "type = \"psk\"\nfile = \"/etc/fleet-agent/psk\"\n", strings.TrimPrefix(identity, "\n"), 1)
}

func TestParseIdentity(t *testing.T) {
	got, err := Parse([]byte(withIdentity()), Default(1234))
	if err != nil {
		t.Fatal(err)
	}
	want := Credentials{
		Type: CredentialOIDC, File: "/etc/fleet-agent/identity.json", SigningKeysFile: "/etc/fleet-agent/signing-keys.json",
		Issuer: "https://fleet.example.com:8443", Project: "4711", CAFile: "/etc/fleet-agent/ca.pem",
	}
	if got.Credentials != want {
		t.Errorf("got  %+v\nwant %+v", got.Credentials, want)
	}
	for _, tc := range []struct{ replace, by, want string }{
		{`issuer = "https://fleet.example.com:8443"`, "", "credentials.issuer: is missing"},
		{"https://fleet", "http://fleet", `scheme "http"`},
		{"https://fleet", "https://a:hunter2@fleet", "no plain URL"},
		{`project = "4711"`, "", "credentials.project: is missing"},
		{`ca_file = "/etc/fleet-agent/ca.pem"` + "\nsigning", `ca_file = "ca.pem"` + "\nsigning", "credentials.ca_file"},
	} {
		if !strings.Contains(withIdentity(), tc.replace) {
			t.Fatalf("the file has no %q", tc.replace)
		}
		_, err := Parse([]byte(strings.Replace(withIdentity(), tc.replace, tc.by, 1)), Default(0))
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q for %q: %v", tc.by, tc.replace, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		replace, by string
		want        []string
	}{
		"unknown keys, all at once": {`log_level = "debug"`, "colour = 1\nlog_levl = 2", []string{`line 3: unknown key "colour"`, `line 4: unknown key "log_levl"`}},
		"unknown key in a table":    {`socket = ""`, `sockett = ""`, []string{`line 19: unknown key "podman.sockett"`}},
		"unknown table":             {"[podman]", "[docker]", []string{`"docker`}},
		"unknown key and bad value": {`device_id = "pi-1"`, "device_id = \"Pi\"\nx = 1", []string{`unknown key "x"`, "device_id:"}},
		"wrong type":                {`device_id = "pi-1"`, `device_id = 1`, []string{"line 2", "device_id"}},
		"syntax":                    {`device_id = "pi-1"`, `device_id = "pi-1`, []string{"line 2"}},
		"log level":                 {`"debug"`, `"loud"`, []string{"line 3", "loud"}},
		"dotted id":                 {`"pi-1"`, `"pi.1"`, []string{`device_id: device id "pi.1"`}},
		"no id":                     {`device_id = "pi-1"`, "", []string{"device_id: device id \"\" is empty"}},
		"relative path":             {`"/srv/agent"`, `"srv"`, []string{"state_dir"}},
		"no URL":                    {`urls = ["tls://fleet.example.com:4222", "nats://127.0.0.1:4222"]`, "urls = []", []string{"nats.urls: is missing"}},
		"plaintext":                 {"nats://127.0.0.1:4222", "nats://10.0.0.1:4222", []string{"plaintext", "tls://10.0.0.1:4222"}},
		"no port":                   {"tls://fleet.example.com:4222", "tls://fleet.example.com", []string{"no HOST:PORT"}},
		"websocket without TLS":     {"tls://fleet", "ws://fleet", []string{`scheme "ws"`, "wss://"}},
		"metrics for a network":     {"127.0.0.1:9464", "0.0.0.0:9464", []string{"metrics.listen", "127.0.0.1:9464"}},
		"metrics in a relative way": {"127.0.0.1:9464", "run/metrics.sock", []string{"metrics.listen"}},
		"scheme":                    {"tls://fleet", "https://fleet", []string{`scheme "https"`}},
		"password in URL":           {"tls://fleet", "tls://a:hunter2@fleet", []string{"credentials.file"}},
		"credential type":           {`"psk"`, `"none"`, []string{`credentials.type: "none"`}},
		"no signing keys":           {`signing_keys_file = "/etc/fleet-agent/signing-keys.json"`, "", []string{"credentials.signing_keys_file: is missing"}},
		"label":                     {`"lyon"`, `"l y"`, []string{"labels:", "topology.example.com/site"}},
		"registry with scheme":      {`"192.168.122.1:5000"`, `"http://192.168.122.1:5000"`, []string{"insecure_registries"}},
		"registry port":             {`"192.168.122.1:5000"`, `"r:99999"`, []string{"insecure_registries"}},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(complete, tc.replace) {
				t.Fatalf("the complete file has no %q", tc.replace)
			}
			_, err := Parse([]byte(strings.Replace(complete, tc.replace, tc.by, 1)), Default(0))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

func TestLoadNamesTheFileAndHints(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	_, err := Load(missing, 0)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) || hint.Of(err) == "" {
		t.Errorf("missing file: %v (hint %q)", err, hint.Of(err))
	}
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("x = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Load(bad, 0)
	if err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(hint.Of(err), bad) {
		t.Errorf("bad file: %v (hint %q)", err, hint.Of(err))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(complete))
	f.Add([]byte("device_id = 'x'\n[labels]\n'' = ''"))
	f.Add([]byte("[nats]\nurls = ['tls://[::1]:1']"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, Default(0))
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("accepted, and yet invalid: %v", err)
		}
	})
}
