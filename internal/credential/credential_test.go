package credential

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSecretIsNeverShown(t *testing.T) {
	c := Credential{User: "pi-1", Password: "hunter2", Token: "hunter2"}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "password", c.Password, "all", c)
	for name, shown := range map[string]string{
		"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", c), "%#v": fmt.Sprintf("%#v", c),
		"%s": fmt.Sprintf("%s", c), "String": c.Password.String(), "json": string(encoded), "slog": logged.String(),
	} {
		if strings.Contains(shown, "hunter2") {
			t.Errorf("%s shows the secret: %s", name, shown)
		}
	}
	if c.Password.Reveal() != "hunter2" {
		t.Error("Reveal does not give the secret")
	}
}

func TestPSK(t *testing.T) {
	file := filepath.Join(t.TempDir(), "psk")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	source := PSK{User: "pi-1", File: file}

	if _, err := source.Credential(context.Background()); err == nil {
		t.Error("a missing file gave a credential")
	}
	write(" \n", 0o600)
	if _, err := source.Credential(context.Background()); err == nil {
		t.Error("an empty file gave a credential")
	}
	write("first\n", 0o644)
	if _, err := source.Credential(context.Background()); err == nil || !strings.Contains(err.Error(), "0644") {
		t.Errorf("a file that others can read: got %v", err)
	}
	for _, key := range []string{"first", "second"} {
		write(key+"\n", 0o400)
		c, err := source.Credential(context.Background())
		if err != nil || c.User != "pi-1" || c.Password.Reveal() != key {
			t.Errorf("got user %q, password matches %v, error %v", c.User, c.Password.Reveal() == key, err)
		}
	}
}
