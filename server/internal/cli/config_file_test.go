package cli

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
)

// A file gives flags by name; the command line counts more; what is no flag is
// an error and not ignored.
func TestConfigFile(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cmd := newOperatorCmd("test")
	flags := cmd.Flags()
	if err := flags.Parse([]string{"--replicas=5"}); err != nil {
		t.Fatal(err)
	}
	if err := applyConfigFile(flags, write("nats-url: [tls://a:4222, tls://b:4222]\nreplicas: 3\ndevices: 500\nnamespace: fleet\n")); err != nil {
		t.Fatal(err)
	}
	urls, _ := flags.GetStringSlice("nats-url")
	replicas, _ := flags.GetInt("replicas")
	devices, _ := flags.GetInt("devices")
	if !slices.Equal(urls, []string{"tls://a:4222", "tls://b:4222"}) || replicas != 5 || devices != 500 {
		t.Errorf("nats-url %v, replicas %d, devices %d", urls, replicas, devices)
	}
	for name, text := range map[string]string{"no flag": "nats-urls: x\n", "a bad value": "devices: many\n", "no YAML": "a: [\n", "itself": "config: x\n"} {
		if err := applyConfigFile(newOperatorCmd("test").Flags(), write(text)); hint.Code(err) != hint.CodeUsage || hint.Of(err) == "" {
			t.Errorf("%s: %v, exit code %d", name, err, hint.Code(err))
		}
	}
}
