package wire

import (
	"errors"
	"fmt"
)

// The verbs of remote hands. Their answers may be of any length, so the
// control plane steers them with VerbStream.
const (
	VerbRestart Verb = "restart" // body Target; the answer is empty, and whole when the containers are up again
	VerbStop    Verb = "stop"    // body Target; the same once they are stopped, and they stay so until VerbStart
	VerbStart   Verb = "start"   // body Target; the answer is empty, and whole when the containers are up
	VerbInspect Verb = "inspect" // body Target; the answer is a JSON array of what the engine knows
	VerbLogs    Verb = "logs"    // body LogsRequest; the answer is output frames
	VerbStream  Verb = "stream"  // body StreamControl; its answer is a part of the stream that it is about
)

// How an answer is steered. Without a StreamControl for StreamLeaseSeconds
// an agent takes the control plane for gone and ends the command; it sends at most
// StreamWindow parts beyond what a StreamControl acknowledged.
const (
	StreamLeaseSeconds = 60
	StreamWindow       = 64
	// MaxPartBytes is the most data in one Reply; in base64 and JSON it stays
	// well below a device's limit of 128 KiB a message.
	MaxPartBytes = 32 << 10
)

// FrameHeaderBytes is the length of what precedes each piece of output: byte 0
// is FrameStdout or FrameStderr, bytes 4 to 7 are the piece's length, big
// endian. Docker and Podman use the same.
const FrameHeaderBytes = 8

// The streams of output.
const (
	FrameStdout = 1
	FrameStderr = 2
)

// Target is what a command is about on its device.
type Target struct {
	Deployment string `json:"deployment"`
	Service    string `json:"service,omitempty"` // empty: all of them, or the only one
}

// Validate checks the names.
func (t Target) Validate() error {
	if err := ValidateDeploymentName(t.Deployment); err != nil {
		return err
	}
	if t.Service == "" {
		return nil
	}
	if err := ValidateDeploymentName(t.Service); err != nil { // the same rule
		return fmt.Errorf("service: %w", err)
	}
	return nil
}

// LogsRequest asks for the output of one service.
type LogsRequest struct {
	Target
	Follow       bool  `json:"follow,omitempty"`
	SinceSeconds int64 `json:"sinceSeconds,omitempty"` // before now, by the device's clock; 0 means from the beginning
	Tail         int   `json:"tail,omitempty"`         // the last lines; 0 means all
}

// Validate checks names and ranges.
func (r LogsRequest) Validate() error {
	if r.SinceSeconds < 0 || r.Tail < 0 {
		return errors.New("since and tail must not be negative")
	}
	return r.Target.Validate()
}

// StreamControl keeps a running command going, acknowledges what arrived of
// its answer, or ends it. Seeing one twice does no more than seeing it once.
type StreamControl struct {
	Stream   string `json:"stream"`   // the nonce of the running command
	Received uint64 `json:"received"` // replies below this sequence arrived
	Cancel   bool   `json:"cancel,omitempty"`
}

// More reply codes.
const (
	ReplyNotFound   ReplyCode = "not-found"   // no such deployment or service here
	ReplyBadRequest ReplyCode = "bad-request" // what is asked for makes no sense
)

// Error makes a reason an error of its own.
func (e *ReplyError) Error() string { return e.Message }
