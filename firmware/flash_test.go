package firmware

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
)

// pcCode, armCode and store are the beginnings of real images, as far as Load looks.
func pcCode(size int) []byte {
	data := make([]byte, size)
	copy(data[markAt:], volumeMark)
	return data
}

func armCode(size int) []byte {
	data := make([]byte, size)
	copy(data, []byte{0x00, 0x04, 0x00, 0x14})
	copy(data[armVolumeAt+markAt:], volumeMark)
	return data
}

func store(size int) []byte {
	data := pcCode(size)
	copy(data[guidAt:], variablesGUID)
	return data
}

func withKeys(data []byte) []byte {
	copy(data[0x800:], platformKey)
	return data
}

var (
	armQuery = Query{Arch: "aarch64", Machine: "virt-7.2"}
	pcSizes  = struct{ code, vars int }{3653632, 540672} // OVMF's 4 MiB build
)

func writeImage(t *testing.T, code, vars []byte) Image {
	t.Helper()
	i := Image{Code: filepath.Join(t.TempDir(), "code.fd"), Vars: filepath.Join(t.TempDir(), "vars.fd")}
	for path, data := range map[string][]byte{i.Code: code, i.Vars: vars} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

func TestSmallFlashIsPadded(t *testing.T) {
	code, vars := armCode(2<<20), store(768<<10)
	i := writeImage(t, code, vars)
	flash, err := i.Load(armQuery)
	if err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string]struct {
		got  Part
		want []byte
	}{"code": {flash.Code, code}, "vars": {flash.Vars, vars}} {
		rest := part.got.Padded[len(part.want):]
		if len(part.got.Padded) != virtFlash || !bytes.HasPrefix(part.got.Padded, part.want) || len(bytes.Trim(rest, "\x00")) != 0 {
			t.Errorf("%s is padded to %d bytes of other content", name, len(part.got.Padded))
		}
	}
	if flash.Code.SHA256 == flash.Vars.SHA256 || len(flash.Code.SHA256) != 64 {
		t.Errorf("digests %q and %q", flash.Code.SHA256, flash.Vars.SHA256)
	}
	again, err := writeImage(t, code, vars).Load(armQuery)
	if err != nil || again.Code.SHA256 != flash.Code.SHA256 {
		t.Errorf("the same content elsewhere has the digest %q, want %q (%v)", again.Code.SHA256, flash.Code.SHA256, err)
	}
}

func TestFlashOfTheRightSizeIsUsedWhereItLies(t *testing.T) {
	i := writeImage(t, armCode(virtFlash), make([]byte, virtFlash))
	flash, err := i.Load(armQuery)
	if err != nil || flash.Code.Padded != nil || flash.Vars.Padded != nil || flash.Code.Path != i.Code || flash.Vars.Path != i.Vars {
		t.Errorf("%v: code %s, vars %s", err, flash.Code.Path, flash.Vars.Path)
	}
	i = writeImage(t, pcCode(pcSizes.code), store(pcSizes.vars))
	if flash, err := i.Load(q35); err != nil || flash.Code.Padded != nil || flash.Vars.Padded != nil {
		t.Errorf("a PC's firmware: %v", err)
	}
}

func TestWrongFilesAreRefused(t *testing.T) {
	code, vars := pcCode(pcSizes.code), store(pcSizes.vars)
	for name, c := range map[string]struct {
		query      Query
		code, vars []byte
		want       string
	}{
		"too large for virt":       {armQuery, armCode(virtFlash + 1), vars, "too large"},
		"too large for a PC":       {q35, pcCode(8 << 20), vars, "too large"},
		"builds of different size": {q35, code, store(131072), "do not belong together"},
		"half a page":              {q35, code[:len(code)-100], vars, "whole pages"},
		"another architecture":     {q35, armCode(1 << 20), vars, "firmware for aarch64"},
		"the other way round":      {armQuery, code, vars, "firmware for x86_64"},
		"not firmware":             {q35, bytes.Repeat([]byte("text"), 1<<10), vars, "no UEFI firmware"},
		"empty":                    {q35, nil, vars, "empty"},
		"exchanged":                {q35, vars, code, "holds variables"},
		"variables that are none":  {q35, code, bytes.Repeat([]byte("text"), pcSizes.vars/4), "no template"},
		"keys enrolled":            {q35, code, withKeys(store(pcSizes.vars)), "secure boot"},
	} {
		_, err := writeImage(t, c.code, c.vars).Load(c.query)
		if err == nil || !strings.Contains(err.Error(), c.want) || hint.Of(err) == "" {
			t.Errorf("%s: %v, want %q and a hint", name, err, c.want)
		}
	}
	secure := q35
	secure.SecureBoot = true
	if _, err := writeImage(t, code, withKeys(store(pcSizes.vars))).Load(secure); err != nil {
		t.Errorf("keys that were asked for: %v", err)
	}
}

// TestFirmwareOfThisMachine holds the rules against what distributions ship.
func TestFirmwareOfThisMachine(t *testing.T) {
	for _, q := range []Query{q35, armQuery} {
		i, err := NewFinder("").Find(q)
		if err != nil {
			t.Logf("not checked: %v", err)
			continue
		}
		if _, err := i.Load(q); err != nil {
			t.Errorf("%s: %v", i.From, err)
		}
	}
}
