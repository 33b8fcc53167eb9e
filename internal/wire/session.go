package wire

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// The verbs whose input goes on after the command: it comes as VerbInput.
const (
	VerbExec     Verb = "exec"     // body ExecRequest; the answer is output frames, FrameExit the last
	VerbForward  Verb = "forward"  // body ForwardRequest; input and answer are the bytes of one TCP connection
	VerbStat     Verb = "stat"     // body CopyRequest; the answer is a FileInfo in JSON. It takes no input
	VerbDownload Verb = "download" // body CopyRequest; the answer is a tar archive. It takes no input
	VerbUpload   Verb = "upload"   // body CopyRequest; the input is a tar archive, which is unpacked at Path; the answer is empty
	VerbInput    Verb = "input"    // body StreamInput
)

// How input is steered: the control plane sends at most InputWindow pieces
// beyond what the agent's replies say was consumed.
const (
	InputWindow   = 16
	MaxInputBytes = 32 << 10 // in one piece; see MaxPartBytes
)

// FrameExit is the frame that ends the output of VerbExec: four bytes, the exit
// code.
const FrameExit = 3

// The frames in which input reaches the control plane, beside FrameStdout's
// layout: InputBytes is what the command reads, InputEnd is its end, InputSize is
// a Size in JSON.
const (
	InputBytes = 0
	InputEnd   = 4
	InputSize  = 5
)

// Size is a terminal's, in characters.
type Size struct {
	Rows    uint16 `json:"rows"`
	Columns uint16 `json:"columns"`
}

// ExecRequest runs a command in the container of one service.
type ExecRequest struct {
	Target
	Command []string `json:"command"`
	Stdin   bool     `json:"stdin,omitempty"` // input is read; else the command has none
	TTY     bool     `json:"tty,omitempty"`   // on a terminal, whose output is all FrameStdout
	Size    Size     `json:"size,omitzero"`   // of the terminal at the beginning
}

// maxCommandBytes keeps a command well below a message's limit.
const maxCommandBytes = 32 << 10

// Validate checks names and limits.
func (r ExecRequest) Validate() error {
	if len(r.Command) == 0 || r.Command[0] == "" {
		return errors.New("there is no command")
	}
	if total := len(strings.Join(r.Command, "")); total > maxCommandBytes {
		return fmt.Errorf("the command has %d bytes, more than %d", total, maxCommandBytes)
	}
	return r.Target.Validate()
}

// ForwardRequest opens a TCP connection to a port of one service.
type ForwardRequest struct {
	Target
	Port uint16 `json:"port"` // in the container; it has to be published
}

// Validate checks names and port.
func (r ForwardRequest) Validate() error {
	if r.Port == 0 {
		return errors.New("there is no port 0")
	}
	return r.Target.Validate()
}

// CopyRequest is about a file or directory in the container of one service.
type CopyRequest struct {
	Target
	Path string `json:"path"` // absolute
}

// Validate checks names and path.
func (r CopyRequest) Validate() error {
	if !path.IsAbs(r.Path) || strings.ContainsRune(r.Path, 0) {
		return fmt.Errorf("path %q in the container is not absolute", clip(r.Path, 80))
	}
	return r.Target.Validate()
}

// FileInfo is what VerbStat tells.
type FileInfo struct {
	Exists bool   `json:"exists"`
	Name   string `json:"name,omitempty"` // the last part of the path
	Dir    bool   `json:"dir,omitempty"`
	Size   int64  `json:"size,omitempty"` // of a file, bytes
}

// StreamInput is a piece of a running command's input. Pieces are numbered from
// 0 without a gap: seeing one again does nothing, and missing one ends the
// command.
type StreamInput struct {
	Stream   string `json:"stream"` // the nonce of the running command
	Sequence uint64 `json:"sequence"`
	Data     []byte `json:"data,omitempty"`
	End      bool   `json:"end,omitempty"` // no input comes after this
	Size     *Size  `json:"size,omitempty"`
}

// Frame puts the header of FrameHeaderBytes before content.
func Frame(kind byte, content []byte) []byte {
	n := uint32(len(content)) //nolint:gosec // pieces are at most MaxPartBytes
	return append([]byte{kind, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, content...)
}
