package hostcfg

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

// CheckUnitFile refuses what systemd would skip with a warning or not load:
// a syntax error, or an option before the first section.
func CheckUnitFile(text string) error {
	if strings.IndexByte(text, 0) >= 0 {
		return fmt.Errorf("unit file holds a NUL byte")
	}
	sections, err := unit.DeserializeSections(strings.NewReader(text))
	if err != nil {
		return fmt.Errorf("unit file: %w", err)
	}
	if len(sections) == 0 {
		return fmt.Errorf("unit file has no section")
	}
	return nil
}
