package keyfile_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/keyfile"
)

func TestRefusesAndHides(t *testing.T) {
	made, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good, err := keyfile.Key{KeyID: "22", UserID: "11", Private: made}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	k, err := keyfile.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "key", k)
	secret := k.Private.D.String()
	for _, shown := range []string{fmt.Sprintf("%v", k), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", k), logged.String()} {
		if strings.Contains(shown, secret) || !strings.Contains(shown, "22") {
			t.Errorf("shows %.80s", shown)
		}
	}

	var fields map[string]string
	if err := json.Unmarshal(good, &fields); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string]string){
		"an application's key": func(f map[string]string) { f["type"] = "application" },
		"no key id":            func(f map[string]string) { delete(f, "keyId") },
		"no user id":           func(f map[string]string) { delete(f, "userId") },
		"no PEM":               func(f map[string]string) { f["key"] = "hunter2" },
		"cut":                  func(f map[string]string) { f["key"] = f["key"][:400] },
	} {
		copied := map[string]string{}
		for k, v := range fields {
			copied[k] = v
		}
		change(copied)
		data, err := json.Marshal(copied)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Parse(data); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := keyfile.Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
