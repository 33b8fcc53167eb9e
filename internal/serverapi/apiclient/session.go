package apiclient

import (
	"bytes"
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

// Terminal is a person's end of a command.
type Terminal struct {
	In          io.Reader        // nil: the command has no input
	Sizes       <-chan wire.Size // nil: they do not change
	Out, ErrOut io.Writer
}

// Exec runs a command in a service's container and gives its exit code. It ends
// with ctx, and the command then does too.
func (c *Client) Exec(ctx context.Context, device string, r wire.ExecRequest, t Terminal) (int, error) {
	var exit bytes.Buffer
	frames := &unframer{stdout: t.Out, stderr: t.ErrOut, exit: &exit}
	if err := c.session(ctx, device, wire.VerbExec, r, t, frames); err != nil {
		return 0, err
	}
	if err := frames.end(); err != nil {
		return 0, err
	}
	if exit.Len() != 4 {
		return 0, fmt.Errorf("exec on device %s: the answer has no exit code: %w", device, io.ErrUnexpectedEOF)
	}
	return int(int32(binary.BigEndian.Uint32(exit.Bytes()))), nil //nolint:gosec // as the agent wrote it
}

// Forward joins in and out with a TCP connection to a service's port.
func (c *Client) Forward(ctx context.Context, device string, r wire.ForwardRequest, in io.Reader, out io.Writer) error {
	return c.session(ctx, device, wire.VerbForward, r, Terminal{In: in}, out)
}

// Stat looks at a path in a service's container.
func (c *Client) Stat(ctx context.Context, device string, r wire.CopyRequest) (info wire.FileInfo, err error) {
	var out bytes.Buffer
	if err := c.stream(ctx, device, wire.VerbStat, r, &out); err != nil {
		return info, err
	}
	if err := json.Unmarshal(out.Bytes(), &info); err != nil {
		return info, fmt.Errorf("decode what device %s says of %s: %w", device, r.Path, err)
	}
	return info, nil
}

// Download writes a path in a service's container as a tar archive.
func (c *Client) Download(ctx context.Context, device string, r wire.CopyRequest, out io.Writer) error {
	return c.stream(ctx, device, wire.VerbDownload, r, out)
}

// Upload unpacks a tar archive at a path, a directory, in a service's container.
func (c *Client) Upload(ctx context.Context, device string, r wire.CopyRequest, archive io.Reader) error {
	return c.session(ctx, device, wire.VerbUpload, r, Terminal{In: archive}, io.Discard)
}

// session makes one request that stays open both ways.
func (c *Client) session(ctx context.Context, device string, verb wire.Verb, request any, t Terminal, out io.Writer) error {
	if err := wire.ValidateDeviceID(device); err != nil {
		return hint.WithCode(err, hint.CodeUsage)
	}
	what := string(verb) + " on device " + device
	first, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var body *io.PipeWriter
	resp, err := c.exchange(ctx, c.long, outgoing{what: what, method: http.MethodPost, media: "application/octet-stream",
		path: []string{"v1", "devices", device, "commands", "session", string(verb)},
		body: func() io.Reader {
			var reader *io.PipeReader
			reader, body = io.Pipe()
			return requestBody{io.MultiReader(bytes.NewReader(wire.Frame(api.FrameRequest, first)), reader), reader}
		}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer body.Close()
	// net/http does not look at ctx while it waits for more of the body.
	defer context.AfterFunc(ctx, func() { body.CloseWithError(context.Cause(ctx)) })()
	if err := c.accepted(ctx, what, resp); err != nil {
		return err
	}
	go func() {
		if err := t.send(ctx, body); err != nil {
			cancel(fmt.Errorf("%s: %w", what, err))
		}
	}()
	err = c.answer(ctx, what, resp, out)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// requestBody can be closed by who reads it.
type requestBody struct {
	io.Reader
	io.Closer
}

// send writes input in frames until its end, or until nobody takes it.
func (t Terminal) send(ctx context.Context, to *io.PipeWriter) error {
	type piece struct {
		data []byte
		err  error
	}
	pieces := make(chan piece, 1)
	go func() {
		if t.In == nil {
			pieces <- piece{nil, io.EOF}
			return
		}
		for {
			buffer := make([]byte, wire.MaxInputBytes)
			n, err := t.In.Read(buffer)
			select {
			case pieces <- piece{buffer[:n], err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	for {
		var frame []byte
		var end error
		select {
		case <-ctx.Done():
			return nil
		case size := <-t.Sizes:
			data, err := json.Marshal(size)
			if err != nil {
				return err
			}
			frame = wire.Frame(wire.InputSize, data)
		case p := <-pieces:
			if len(p.data) > 0 {
				frame = wire.Frame(wire.InputBytes, p.data)
			}
			end = p.err
		}
		if errors.Is(end, io.EOF) {
			frame = append(frame, wire.Frame(wire.InputEnd, nil)...)
		} else if end != nil {
			return fmt.Errorf("read the input: %w", end)
		}
		if _, err := to.Write(frame); err != nil {
			return nil // the other side has ended
		}
		if end != nil && t.Sizes == nil {
			return to.Close()
		}
	}
}
