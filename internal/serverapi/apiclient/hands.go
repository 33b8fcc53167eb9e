package apiclient

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// Restart restarts the containers of a target and returns when they are up
// again. Like Inspect and Logs it may be api.CodeDeviceOffline,
// CodeDeviceNoAnswer, CodeDeviceRefused or CodeNoSuchService.
func (c *Client) Restart(ctx context.Context, device string, t wire.Target) error {
	return c.stream(ctx, device, wire.VerbRestart, t, io.Discard)
}

// Stop stops the containers of a target and returns when they are; they stay so
// until Start.
func (c *Client) Stop(ctx context.Context, device string, t wire.Target) error {
	return c.stream(ctx, device, wire.VerbStop, t, io.Discard)
}

// Start starts the containers of a target and returns when they are up.
func (c *Client) Start(ctx context.Context, device string, t wire.Target) error {
	return c.stream(ctx, device, wire.VerbStart, t, io.Discard)
}

// Inspect writes what the device's engine knows of a target, a JSON array.
func (c *Client) Inspect(ctx context.Context, device string, t wire.Target, out io.Writer) error {
	return c.stream(ctx, device, wire.VerbInspect, t, out)
}

// Logs writes the output of one service to where it belongs. With r.Follow it
// goes on until ctx or the container ends.
func (c *Client) Logs(ctx context.Context, device string, r wire.LogsRequest, stdout, stderr io.Writer) error {
	frames := &unframer{stdout: stdout, stderr: stderr}
	if err := c.stream(ctx, device, wire.VerbLogs, r, frames); err != nil {
		return err
	}
	return frames.end()
}

// stream makes one request whose answer may take any time, and copies it.
func (c *Client) stream(ctx context.Context, device string, verb wire.Verb, body any, out io.Writer) error {
	if err := wire.ValidateDeviceID(device); err != nil {
		return hint.WithCode(err, hint.CodeUsage)
	}
	what := string(verb) + " on device " + device
	resp, err := c.send(ctx, c.long, what, http.MethodPost, nil, body, "v1", "devices", device, "commands", string(verb))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := c.accepted(ctx, what, resp); err != nil {
		return err
	}
	return c.answer(ctx, what, resp, out)
}

// accepted is nil for an answer that is no refusal.
func (c *Client) accepted(ctx context.Context, what string, resp *http.Response) error {
	if resp.StatusCode < http.StatusMultipleChoices {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return c.unreachable(ctx, what, err)
	}
	return refused(what, resp, data)
}

// answer copies an answer, and gives the failure that is in its trailer.
func (c *Client) answer(ctx context.Context, what string, resp *http.Response, out io.Writer) error {
	sink := &sink{out: out}
	if _, err := io.Copy(sink, resp.Body); err != nil {
		if sink.err != nil {
			return fmt.Errorf("%s: %w", what, sink.err)
		}
		return c.unreachable(ctx, what, err)
	}
	if text := resp.Trailer.Get(api.StreamErrorTrailer); text != "" {
		var failed api.Error
		if err := json.Unmarshal([]byte(text), &failed); err != nil {
			return notFleetServer(what, resp, err)
		}
		return &hint.Error{Err: fmt.Errorf("%s: %w", what, &Error{resp.StatusCode, failed}), Hint: failed.Hint, Code: exitCode(failed.Code)}
	}
	return nil
}

// sink tells a failure to write from a failure to read.
type sink struct {
	out io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.out.Write(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// unframer takes output frames apart; they may arrive in any pieces.
type unframer struct {
	stdout, stderr io.Writer
	exit           io.Writer // of wire.FrameExit; nil where there is none
	header         []byte
	to             io.Writer
	left           uint32 // of the frame's content
}

var errFrames = errors.New("the output is not in frames")

func (u *unframer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if u.left > 0 {
			n := min(len(rest), int(u.left))
			if _, err := u.to.Write(rest[:n]); err != nil {
				return 0, err
			}
			u.left -= uint32(n)
			rest = rest[n:]
			continue
		}
		n := min(len(rest), wire.FrameHeaderBytes-len(u.header))
		u.header, rest = append(u.header, rest[:n]...), rest[n:]
		if len(u.header) < wire.FrameHeaderBytes {
			break
		}
		switch u.header[0] {
		case wire.FrameStdout:
			u.to = u.stdout
		case wire.FrameStderr:
			u.to = u.stderr
		case wire.FrameExit:
			u.to = u.exit
		default:
			u.to = nil
		}
		if u.to == nil {
			return 0, errFrames
		}
		u.left, u.header = binary.BigEndian.Uint32(u.header[4:]), nil
	}
	return len(p), nil
}

// end checks that no frame was cut.
func (u *unframer) end() error {
	if u.left > 0 || len(u.header) > 0 {
		return fmt.Errorf("read output: %w", io.ErrUnexpectedEOF)
	}
	return nil
}
