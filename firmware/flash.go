package firmware

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Flash is a firmware checked for the machine that it is to start.
type Flash struct {
	Code, Vars Part
}

// Part is one flash image. What already has the size that the machine insists
// on is used where it lies; anything else has Padded, the content to use in its
// stead, and its SHA-256 in hex.
type Part struct {
	Path   string
	Padded []byte
	SHA256 string
}

// Sizes that QEMU insists on. The flash of "virt" is two devices of exactly
// 64 MiB (hw/arm/virt.c); that of a PC ends at 4 GiB, is mapped in pages, and
// has at most 8 MiB in all (hw/i386/pc_sysfw.c).
const (
	virtFlash = 64 << 20
	pcFlash   = 8 << 20
	page      = 4 << 10
)

// Load checks the two files for the machine of the query: sizes, architecture,
// that they belong together, and that no keys of secure boot are enrolled that
// nobody asked for, with which a guest's own boot loader would be refused. What
// is too small is padded.
func (i Image) Load(q Query) (Flash, error) {
	code, vars, err := i.load(q)
	if err != nil {
		return Flash{}, hint.Wrap(fmt.Errorf("firmware for %s: %w", q.Arch, err),
			"install the distribution's own: "+installHint(q.Arch)+"; or see that a descriptor of yours in qemu/firmware/ names the right files")
	}
	return Flash{code, vars}, nil
}

func (i Image) load(q Query) (code, vars Part, err error) {
	codeData, err := readFlash(i.Code)
	if err != nil {
		return code, vars, err
	}
	varsData, err := readFlash(i.Vars)
	if err != nil {
		return code, vars, err
	}
	if err := errors.Join(checkCode(i.Code, codeData, q.Arch), checkVars(i.Vars, varsData, q.SecureBoot)); err != nil {
		return code, vars, err
	}
	if q.Arch == "x86_64" {
		return Part{Path: i.Code}, Part{Path: i.Vars}, checkPC(i, len(codeData), len(varsData))
	}
	return pad(i.Code, codeData), pad(i.Vars, varsData), nil
}

// readFlash refuses what fits into no machine before it is read.
func readFlash(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, virtFlash+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", path, err)
	case len(data) == 0:
		return nil, fmt.Errorf("%s is empty", path)
	case len(data) > virtFlash:
		return nil, fmt.Errorf("%s is too large: a machine's flash has %d MiB", path, virtFlash>>20)
	}
	return data, nil
}

func pad(path string, data []byte) Part {
	if len(data) == virtFlash {
		return Part{Path: path}
	}
	padded := make([]byte, virtFlash)
	copy(padded, data)
	sum := sha256.Sum256(padded)
	return Part{Path: path, Padded: padded, SHA256: hex.EncodeToString(sum[:])}
}

// checkPC: the two are one image of a whole number of MiB, cut in two, so that
// files of builds of different size do not add up.
func checkPC(i Image, code, vars int) error {
	switch sum := code + vars; {
	case code%page != 0 || vars%page != 0:
		return fmt.Errorf("%s and %s have %d and %d bytes: want whole pages of 4 KiB", i.Code, i.Vars, code, vars)
	case sum > pcFlash:
		return fmt.Errorf("%s and %s are too large: together %d KiB, and a PC's flash has %d MiB", i.Code, i.Vars, sum>>10, pcFlash>>20)
	case sum&(sum-1) != 0:
		return fmt.Errorf("%s (%d KiB) and %s (%d KiB) do not belong together: builds are 1, 2, 4 or 8 MiB", i.Code, code>>10, i.Vars, vars>>10)
	}
	return nil
}

// Marks of UEFI's flash images: PI specification, volume 3, 3.2.1 (firmware
// volume header), and EDK II's VariableFormat.h.
var (
	volumeMark = []byte("_FVH") // at byte 40 of a firmware volume
	// variablesGUID is EFI_SYSTEM_NV_DATA_FV_GUID, at byte 16 of the volume.
	variablesGUID = []byte{0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50}
	// platformKey is EFI_GLOBAL_VARIABLE with the name "PK" behind it, in UTF-16.
	platformKey = []byte("\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8cP\x00K\x00\x00\x00")
)

const (
	markAt      = 40
	guidAt      = 16
	armVolumeAt = 4 << 10 // behind the instruction that the processor begins with
	armBranch   = 0x14    // highest byte of "b" in A64, its lowest two bits are the distance's
)

func hasVolume(data []byte, at int) bool {
	return len(data) > at+markAt+len(volumeMark) && bytes.Equal(data[at+markAt:at+markAt+len(volumeMark)], volumeMark)
}

// codeArch recognises what starts which processor: a PC begins in the last 16
// bytes, so that its image begins with a volume; an ARM begins with the first.
func codeArch(data []byte) string {
	switch {
	case hasVolume(data, 0):
		return "x86_64"
	case hasVolume(data, armVolumeAt) && data[3]&^3 == armBranch:
		return "aarch64"
	}
	return ""
}

func checkCode(path string, data []byte, arch string) error {
	if hasVariables(data) {
		return fmt.Errorf("%s holds variables, not firmware", path)
	}
	switch found := codeArch(data); found {
	case arch:
		return nil
	case "":
		return fmt.Errorf("%s is no UEFI firmware", path)
	default:
		return fmt.Errorf("%s is firmware for %s", path, found)
	}
}

func hasVariables(data []byte) bool {
	return hasVolume(data, 0) && bytes.Equal(data[guidAt:guidAt+len(variablesGUID)], variablesGUID)
}

// checkVars accepts an empty store, which the firmware formats itself.
func checkVars(path string, data []byte, secureBoot bool) error {
	blank := len(bytes.Trim(data, "\x00")) == 0 || len(bytes.Trim(data, "\xff")) == 0
	switch {
	case !blank && !hasVariables(data):
		return fmt.Errorf("%s is no template of UEFI variables", path)
	case bytes.Contains(data, platformKey) && !secureBoot:
		return fmt.Errorf("%s has keys of secure boot enrolled, which was not asked for", path)
	}
	return nil
}
