package podman

import (
	"errors"
	"fmt"

	"github.com/nationtech/fleetctl/internal/wire"
)

// reasonError is an error of a kind that others branch on.
type reasonError struct {
	reason wire.Reason
	error
}

func (e reasonError) Unwrap() error { return e.error }

// because gives an error its reason; nil stays nil.
func because(reason wire.Reason, err error) error {
	if err == nil {
		return nil
	}
	return reasonError{reason, err}
}

// reasonOf is the reason that because gave, or "".
func reasonOf(err error) wire.Reason {
	var e reasonError
	if errors.As(err, &e) {
		return e.reason
	}
	return ""
}

// end is how a run of a container ended.
type end struct {
	container string
	state     ContainerState
}

// exitText says how a container ended.
func exitText(s ContainerState) string {
	text := fmt.Sprintf("exited with code %d", s.ExitCode)
	if s.OOMKilled {
		text += " (out of memory)"
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}

func exitReason(s ContainerState) wire.Reason {
	if s.OOMKilled {
		return wire.ReasonOutOfMemory
	}
	return wire.ReasonExited
}
