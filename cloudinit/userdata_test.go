package cloudinit

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hostile is text that YAML would misread if it were pasted.
const hostile = "no: [\"yes\", 'x'] # {{ }} \t: |\n- \u2028é"

func example() Config {
	return Config{
		Hostname: "pi-1",
		User:     User{Name: "fleet", AuthorizedKeys: []string{"ssh-ed25519 AAAA me@laptop: #1"}},
		HostKey:  &HostKey{Private: "-----BEGIN-----\nkey\n-----END-----\n", Public: "ssh-ed25519 BBBB"},
		Packages: []string{"podman"},
		Files:    []File{{Path: "/etc/motd", Content: []byte(hostile), Mode: 0o644}},
		Timezone: "Europe/Paris",
		MAC:      "52:54:00:12:34:56",
	}
}

func TestGoldenSeed(t *testing.T) {
	cases := map[string]Config{"plain": {Hostname: "pi", User: User{Name: "fleet"}, MAC: "52:54:00:00:00:01"}, "full": example()}
	password := example()
	password.User.PasswordHash = "$6$salt$hash"
	cases["password"] = password
	for name, config := range cases {
		seed, err := config.Render()
		if err != nil {
			t.Fatal(err)
		}
		for part, got := range map[string][]byte{"user-data": seed.UserData, "meta-data": seed.MetaData, "network-config": seed.NetworkConfig} {
			path := filepath.Join("testdata", name+"."+part)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
			}
		}
	}
}

func TestHostileStringsSurvive(t *testing.T) {
	config := example()
	config.User.AuthorizedKeys = []string{hostile}
	data, err := config.UserData()
	if err != nil {
		t.Fatal(err)
	}
	var back userData
	if err := yaml.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Users[0].AuthorizedKeys[0]; got != hostile {
		t.Errorf("got %q, want %q", got, hostile)
	}
}

func TestInstanceIDFollowsContent(t *testing.T) {
	one, err := example().Render()
	if err != nil {
		t.Fatal(err)
	}
	again, err := example().Render()
	if err != nil {
		t.Fatal(err)
	}
	other := example()
	other.Packages = append(other.Packages, "jq")
	changed, err := other.Render()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.MetaData, again.MetaData) {
		t.Error("the same content has two instance ids")
	}
	if bytes.Equal(one.MetaData, changed.MetaData) {
		t.Error("other content has the same instance id")
	}
}

func TestExtraIsMerged(t *testing.T) {
	config := example()
	config.Extra = []byte("#cloud-config\npackages: [jq]\ngrowpart: {mode: \"off\"}\nhostname: mine\n")
	data, err := config.UserData()
	if err != nil {
		t.Fatal(err)
	}
	var got userData
	if err := yaml.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got.Packages, " ") != "podman jq" || got.GrowPart.Mode != "off" || len(got.GrowPart.Devices) != 1 || got.Hostname != "mine" {
		t.Errorf("merged to %+v", got)
	}
	for _, bad := range []string{"packages: [jq]\n", "#cloud-config\na: 1\na: 2\n", "#cloud-config\n{"} {
		config.Extra = []byte(bad)
		if _, err := config.UserData(); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestISOIsReadByOthers(t *testing.T) {
	seed, err := example().Render()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	data, err := seed.ISO()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("made %d bytes in %s", len(data), time.Since(start))
	path := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("xorriso"); err != nil {
		t.Skip("xorriso is not installed")
	}
	out := t.TempDir()
	if text, err := exec.Command("xorriso", "-osirrox", "on", "-indev", path, "-extract", "/", out).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, text)
	} else if !strings.Contains(string(text), "'cidata'") {
		t.Errorf("xorriso sees no volume cidata:\n%s", text)
	}
	for name, want := range map[string][]byte{"user-data": seed.UserData, "meta-data": seed.MetaData, "network-config": seed.NetworkConfig} {
		if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %d bytes, want %d", name, err, len(got), len(want))
		}
	}
	if text, err := exec.Command("blkid", "-p", path).CombinedOutput(); err != nil || !strings.Contains(string(text), `LABEL="cidata"`) {
		t.Errorf("blkid: %v: %s", err, text)
	}
}

// TestSchemaOfTheGoldens asks cloud-init itself.
func TestSchemaOfTheGoldens(t *testing.T) {
	if _, err := exec.LookPath("cloud-init"); err != nil {
		t.Skip("cloud-init is not installed; run: scripts/setup test")
	}
	goldens, err := filepath.Glob("testdata/*.user-data")
	if err != nil || len(goldens) == 0 {
		t.Fatalf("goldens: %q, %v", goldens, err)
	}
	for _, golden := range goldens {
		if out, err := exec.Command("cloud-init", "schema", "--config-file", golden).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", golden, err, out)
		}
	}
	wrong := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(wrong, []byte("#cloud-config\nusers: 7\nhostname: [a]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cloud-init", "schema", "--config-file", wrong).CombinedOutput(); err == nil {
		t.Errorf("the judge accepts anything: %s", out)
	}
}

func BenchmarkISO(b *testing.B) {
	seed, err := example().Render()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := seed.ISO(); err != nil {
			b.Fatal(err)
		}
	}
}
