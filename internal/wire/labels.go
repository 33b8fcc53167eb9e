package wire

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// LabelDeviceID is the label that every Device carries, with its id as value.
// The control plane sets it; a device cannot claim it.
const LabelDeviceID = "device-id"

// MaxLabels bounds the labels of a device, so that they fit BucketInfo.
const MaxLabels = 64

var (
	labelName   = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
	labelPrefix = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// ValidateLabels applies the rules of Kubernetes for labels ("Labels and
// Selectors", Syntax and character set), which selectors match them against.
// It reports every fault at once, ordered by key.
func ValidateLabels(labels map[string]string) error {
	var errs []error
	if len(labels) > MaxLabels {
		errs = append(errs, fmt.Errorf("%d labels; the most is %d", len(labels), MaxLabels))
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if err := validateLabel(key, labels[key]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func validateLabel(key, value string) error {
	shown := clip(key, 80)
	if key == LabelDeviceID {
		return fmt.Errorf("label %q is set by the control plane", shown)
	}
	name := key
	if prefix, rest, found := strings.Cut(key, "/"); found {
		name = rest
		if len(prefix) > 253 || !labelPrefix.MatchString(prefix) {
			return fmt.Errorf("label %q: what is before the / is no DNS name", shown)
		}
	}
	if len(name) > MaxNameLength || !labelName.MatchString(name) {
		return fmt.Errorf("label %q: a name has 1 to %d of a-z, A-Z, 0-9, -, _ and ., with a letter or digit at both ends", shown, MaxNameLength)
	}
	if value != "" && (len(value) > MaxNameLength || !labelName.MatchString(value)) {
		return fmt.Errorf("label %q: value %q must be empty, or up to %d of a-z, A-Z, 0-9, -, _ and ., with a letter or digit at both ends", shown, clip(value, 80), MaxNameLength)
	}
	return nil
}
