package serverapi

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/nationtech/fleetctl/internal/commands"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/wire"
)

// sessionPath is before the verbs that take input.
const sessionPath = "/v1/devices/{id}/commands/session/"

// maxInputTotal bounds what one command can be sent, in bytes.
const maxInputTotal = 2 << 30

// session serves a command whose input goes on: the request's body is frames
// (wire.FrameHeaderBytes), first the command's body as api.FrameRequest, then
// input. Both ways are open at once, which HTTP/2 allows.
func session[T aboutTarget](h *handlers, verb wire.Verb) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			// Else the answer waits for the end of the input.
			_ = http.NewResponseController(w).EnableFullDuplex() // what the server's own writers can do
			h.answer(w, r, nil, fail(http.StatusHTTPVersionNotSupported, api.CodeBadRequest, "this takes HTTP/2, in a tunnel where a proxy in between speaks HTTP/1.1 only",
				"use a fleetctl of the server's version"))
			return
		}
		frames := bufio.NewReaderSize(r.Body, wire.MaxInputBytes)
		h.serveStream(w, r, verb, func() (any, error) {
			kind, content, err := readFrame(frames, maxBodyBytes)
			var body T
			if err == nil && kind != api.FrameRequest {
				err = errors.New("the first frame is no request")
			}
			if err == nil {
				err = json.Unmarshal(content, &body)
			}
			if err != nil {
				return nil, fail(http.StatusBadRequest, api.CodeBadRequest, "the request is not what is expected: "+err.Error(), "")
			}
			return body, invalid(body.Validate())
		}, func(c call, verb wire.Verb, body any, out *part) error {
			return h.steer(c, verb, body, out, func(ctx context.Context, request commands.Request) error {
				// The client sends input once it sees that it is wanted.
				out.begin()
				if err := out.control.Flush(); err != nil {
					return errors.Join(errClientGone, err)
				}
				input := make(chan wire.StreamInput)
				ctx, cancel := context.WithCancelCause(ctx)
				defer cancel(nil)
				go func() {
					if err := readInput(ctx, frames, input); err != nil {
						cancel(err)
					}
				}()
				err := h.cfg.Commands.Session(ctx, request, input, out.write)
				if cause := context.Cause(ctx); err != nil && errors.As(cause, new(*failure)) {
					return cause
				}
				return err
			})
		})
	}
}

// readInput hands a client's input on until its end.
func readInput(ctx context.Context, frames io.Reader, to chan<- wire.StreamInput) error {
	defer close(to)
	for total := 0; ; {
		kind, content, err := readFrame(frames, wire.MaxInputBytes)
		if errors.Is(err, io.EOF) { // as good as InputEnd
			kind, err = wire.InputEnd, nil
		}
		if err != nil {
			return errors.Join(errClientGone, err)
		}
		if total += len(content); total > maxInputTotal {
			return fail(http.StatusRequestEntityTooLarge, api.CodeTooLarge, fmt.Sprintf("the input exceeds %d bytes", maxInputTotal), "copy it in parts")
		}
		piece := wire.StreamInput{}
		switch kind {
		case wire.InputBytes:
			piece.Data = content
		case wire.InputEnd:
			piece.End = true
		case wire.InputSize:
			piece.Size = &wire.Size{}
			if err := json.Unmarshal(content, piece.Size); err != nil {
				return fail(http.StatusBadRequest, api.CodeBadRequest, "a terminal's size is not what is expected: "+err.Error(), "")
			}
		default:
			return fail(http.StatusBadRequest, api.CodeBadRequest, fmt.Sprintf("input of kind %d is not known", kind), "")
		}
		select {
		case to <- piece:
		case <-ctx.Done():
			return nil
		}
		if piece.End {
			return nil
		}
	}
}

// readFrame reads one frame; io.EOF is only between two.
func readFrame(from io.Reader, most int) (kind byte, content []byte, err error) {
	var header [wire.FrameHeaderBytes]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(header[4:])
	if int64(n) > int64(most) {
		return 0, nil, fmt.Errorf("a frame of %d bytes exceeds %d", n, most)
	}
	content = make([]byte, n)
	if _, err := io.ReadFull(from, content); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return header[0], content, nil
}
