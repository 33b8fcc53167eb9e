package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/tarcopy"
	"github.com/nationtech/fleetctl/internal/wire"
)

func newCopyCmd(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "cp SOURCE TARGET",
		Short: "Copy files into a service's container on a device, or out of it",
		Long: `Copy a file or a directory into a service's container on a device, or out of it.
One side is DEVICE:SERVICE:PATH, with an absolute path; SERVICE is a deployment, or
DEPLOYMENT/SERVICE where it has several. A target that is a directory gets the source
put into it. What is in no volume is lost with the container.`,
		Example: `  fleetctl cp ./site.conf pi-1:web:/etc/nginx/conf.d/
  fleetctl cp pi-1:shop/db:/var/log/postgres ./logs`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return runCopy(cmd.Context(), f, args[0], args[1]) },
	}
}

// remotePath is DEVICE:SERVICE:PATH.
type remotePath struct {
	device  string
	request wire.CopyRequest
}

// parseRemote gives nil for a path on this machine.
func parseRemote(text string) (*remotePath, error) {
	device, rest, found := strings.Cut(text, ":")
	service, name, more := strings.Cut(rest, ":")
	if !found || !more || wire.ValidateDeviceID(device) != nil {
		return nil, nil
	}
	r := &remotePath{device, wire.CopyRequest{Target: serviceTarget(service), Path: name}}
	if err := r.request.Validate(); err != nil {
		return nil, usageError(err, "write it as DEVICE:SERVICE:/PATH")
	}
	return r, nil
}

// copied is what `cp` prints.
type copied struct {
	SchemaVersion int    `json:"schemaVersion"`
	DeviceID      string `json:"deviceId"`
	Target        string `json:"target"` // where it is now
	tarcopy.Count
}

func runCopy(ctx context.Context, f *Factory, source, target string) error {
	from, err := parseRemote(source)
	if err != nil {
		return err
	}
	to, err := parseRemote(target)
	if err != nil {
		return err
	}
	if (from == nil) == (to == nil) {
		return usageError(errors.New("one side must be in a container, and one here"), "for example: fleetctl cp ./app.conf pi-1:web:/etc/app.conf")
	}
	api, err := f.API()
	if err != nil {
		return err
	}
	result := copied{SchemaVersion: 1}
	if from != nil {
		result.DeviceID = from.device
		result.Target, result.Count, err = copyOut(ctx, api, from, target)
	} else {
		result.DeviceID = to.device
		result.Target, result.Count, err = copyIn(ctx, api, source, to)
	}
	if err != nil {
		return err
	}
	return f.Print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d files, %d bytes: %s\n", result.Files, result.Bytes, result.Target)
		return err
	})
}

func copyOut(ctx context.Context, api *apiclient.Client, from *remotePath, target string) (string, tarcopy.Count, error) {
	dir, name := filepath.Split(filepath.Clean(target))
	if info, err := os.Stat(target); err == nil && info.IsDir() || strings.HasSuffix(target, "/") {
		dir, name = target, path.Base(from.request.Path)
	}
	dir = cmp.Or(dir, ".")
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", tarcopy.Count{}, hint.New(dir+" is no directory", "make it with: mkdir -p "+dir)
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(api.Download(ctx, from.device, from.request, writer)) }()
	count, err := tarcopy.Unpack(ctx, reader, dir, name)
	if err == nil { // the archive's end is before the answer's, where a failure would be
		_, err = io.Copy(io.Discard, reader)
	}
	reader.CloseWithError(err)
	return filepath.Join(dir, name), count, err
}

func copyIn(ctx context.Context, api *apiclient.Client, source string, to *remotePath) (string, tarcopy.Count, error) {
	info, err := os.Stat(source)
	if err != nil {
		return "", tarcopy.Count{}, usageError(err, "name a file or a directory on this machine")
	}
	there, err := api.Stat(ctx, to.device, to.request)
	if err != nil {
		return "", tarcopy.Count{}, err
	}
	dir, name := path.Split(path.Clean(to.request.Path))
	switch {
	case there.Exists && there.Dir:
		dir, name = to.request.Path, filepath.Base(source)
		if abs, err := filepath.Abs(source); err == nil { // "." has a name, too
			name = filepath.Base(abs)
		}
	case strings.HasSuffix(to.request.Path, "/"):
		return "", tarcopy.Count{}, hint.New("there is no directory "+to.request.Path+" in the container",
			fmt.Sprintf("make it with: fleetctl exec %s %s -- mkdir -p %s", to.device, to.request.Deployment, to.request.Path))
	case there.Exists && info.IsDir():
		return "", tarcopy.Count{}, usageError(errors.New(to.request.Path+" in the container is a file, and "+source+" a directory"), "name another target")
	}
	request := wire.CopyRequest{Target: to.request.Target, Path: dir}
	reader, writer := io.Pipe()
	var count tarcopy.Count
	packed := make(chan error, 1)
	go func() {
		var err error
		count, err = tarcopy.Pack(ctx, writer, source, name)
		writer.CloseWithError(err)
		packed <- err
	}()
	err = api.Upload(ctx, to.device, request, reader)
	reader.CloseWithError(io.ErrClosedPipe) // an upload that failed takes no more
	if packing := <-packed; err == nil {
		err = packing
	}
	return path.Join(dir, name), count, err
}
