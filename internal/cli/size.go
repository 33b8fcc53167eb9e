package cli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	tib = 1 << 40
)

var sizePattern = regexp.MustCompile(`^([0-9]{1,12})([KMGT]?)(i?B)?$`)

// parseSize reads "2GiB", "2G", "2048M" and the like as bytes; a bare number
// counts units. Letters mean powers of 1024, as they do to QEMU and libvirt.
func parseSize(text string, unit int64) (int64, error) {
	match := sizePattern.FindStringSubmatch(strings.TrimSpace(text))
	if match == nil {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size: %w", text, err)
	}
	if factor, named := map[string]int64{"K": kib, "M": mib, "G": gib, "T": tib}[match[2]]; named {
		unit = factor
	} else if match[3] != "" {
		unit = 1
	}
	if n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return n * unit, nil
}

// formatSize writes bytes for a person.
func formatSize(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{tib, "TiB"}, {gib, "GiB"}, {mib, "MiB"}, {kib, "KiB"}} {
		if n >= u.size {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
