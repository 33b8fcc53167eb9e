package podman

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"

	"github.com/nationtech/fleetctl/internal/wire"
)

// statHeader is Docker's and Podman's: what is at a path, JSON in base64.
const statHeader = "X-Docker-Container-Path-Stat"

// Stat looks at a path in the container of a service.
func (r *Runtime) Stat(ctx context.Context, req wire.CopyRequest) (wire.FileInfo, error) {
	c, err := r.one(ctx, req.Target)
	if err != nil {
		return wire.FileInfo{}, err
	}
	resp, err := r.client.send(ctx, http.MethodHead, "/containers/"+c.ID+"/archive", url.Values{"path": {req.Path}}, nil)
	if hasStatus(err, http.StatusNotFound) {
		return wire.FileInfo{}, nil
	}
	if err != nil {
		return wire.FileInfo{}, fmt.Errorf("look at %s in container %s: %w", req.Path, short(c.ID), err)
	}
	defer resp.Body.Close()
	var seen struct {
		Name string      `json:"name"`
		Size int64       `json:"size"`
		Mode fs.FileMode `json:"mode"`
	}
	data, err := base64.StdEncoding.DecodeString(resp.Header.Get(statHeader))
	if err == nil {
		err = json.Unmarshal(data, &seen)
	}
	if err != nil {
		return wire.FileInfo{}, fmt.Errorf("decode what Podman says of %s: %w", req.Path, err)
	}
	return wire.FileInfo{Exists: true, Name: seen.Name, Dir: seen.Mode.IsDir(), Size: seen.Size}, nil
}

// Download writes a path in a container as a tar archive.
func (r *Runtime) Download(ctx context.Context, req wire.CopyRequest, out io.Writer) error {
	c, err := r.one(ctx, req.Target)
	if err != nil {
		return err
	}
	resp, err := r.client.send(ctx, http.MethodGet, "/containers/"+c.ID+"/archive", url.Values{"path": {req.Path}}, nil)
	if err != nil {
		return copyFailure(req.Path, err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(out, resp.Body); err != nil {
		return fmt.Errorf("read %s from container %s: %w", req.Path, short(c.ID), err)
	}
	return nil
}

// Upload unpacks a tar archive into a directory of a container.
func (r *Runtime) Upload(ctx context.Context, req wire.CopyRequest, in io.Reader) error {
	c, err := r.one(ctx, req.Target)
	if err != nil {
		return err
	}
	if err := r.client.put(ctx, "/containers/"+c.ID+"/archive", url.Values{"path": {req.Path}}, in); err != nil {
		return copyFailure(req.Path, err)
	}
	return nil
}

func copyFailure(path string, err error) error {
	if hasStatus(err, http.StatusNotFound) {
		return &wire.ReplyError{Code: wire.ReplyNotFound, Message: "there is no " + path + " in the container"}
	}
	return err
}

// put sends a body of any length.
func (c *Client) put(ctx context.Context, path string, query url.Values, body io.Reader) error {
	target := url.URL{Scheme: "http", Host: "podman", Path: apiPrefix + path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target.String(), body)
	if err != nil {
		return fmt.Errorf("make request for Podman: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
