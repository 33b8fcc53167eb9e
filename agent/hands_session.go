package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Sessions is what an Engine can do by hand while a person goes on typing. Its
// errors may be *wire.ReplyError.
type Sessions interface {
	// Exec runs a command, whose output goes to out in frames, and gives its
	// exit code. When ctx ends, the command does.
	Exec(ctx context.Context, r wire.ExecRequest, in Terminal, out io.Writer) (code int, err error)
	// Forward joins a connection to a service's port with in and out.
	Forward(ctx context.Context, r wire.ForwardRequest, in io.Reader, out io.Writer) error
	// Stat looks at a path in a container.
	Stat(ctx context.Context, r wire.CopyRequest) (wire.FileInfo, error)
	// Download writes a path as a tar archive.
	Download(ctx context.Context, r wire.CopyRequest, out io.Writer) error
	// Upload unpacks a tar archive at a path.
	Upload(ctx context.Context, r wire.CopyRequest, in io.Reader) error
}

// Terminal is what a command reads, and the sizes of the person's terminal.
type Terminal = interface {
	io.Reader
	Sizes() <-chan wire.Size
}

// sessionHandlers are the verbs that an Engine with Sessions makes possible.
func (a *Agent) sessionHandlers() map[wire.Verb]handler {
	hands, able := a.cfg.Engine.(Sessions)
	if !able {
		return nil
	}
	return map[wire.Verb]handler{
		wire.VerbExec: on(func(ctx context.Context, r wire.ExecRequest, out io.Writer) error {
			a.log.Info("running a command by hand", "op", "exec", "deployment", r.Deployment, "service", r.Service)
			code, err := hands.Exec(ctx, r, inputOf(out), out)
			if err != nil {
				return err
			}
			_, err = out.Write(wire.Frame(wire.FrameExit, []byte{byte(code >> 24), byte(code >> 16), byte(code >> 8), byte(code)}))
			return err
		}),
		wire.VerbForward: on(func(ctx context.Context, r wire.ForwardRequest, out io.Writer) error {
			return hands.Forward(ctx, r, inputOf(out), out)
		}),
		wire.VerbStat: on(func(ctx context.Context, r wire.CopyRequest, out io.Writer) error {
			info, err := hands.Stat(ctx, r)
			if err != nil {
				return err
			}
			return json.NewEncoder(out).Encode(info)
		}),
		wire.VerbDownload: on(func(ctx context.Context, r wire.CopyRequest, out io.Writer) error {
			a.log.Info("copying by hand", "op", "download", "deployment", r.Deployment, "path", r.Path)
			return hands.Download(ctx, r, out)
		}),
		wire.VerbUpload: on(func(ctx context.Context, r wire.CopyRequest, out io.Writer) error {
			a.log.Info("copying by hand", "op", "upload", "deployment", r.Deployment, "path", r.Path)
			return hands.Upload(ctx, r, inputOf(out))
		}),
	}
}

// inputOf is the input beside an answer.
func inputOf(out io.Writer) *Input {
	if s, ok := out.(*stream); ok {
		return s.input
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("there is no input"))
	return newInput(ctx)
}
