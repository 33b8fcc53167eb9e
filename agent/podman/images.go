package podman

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// pullTimeout bounds one pull: a slow line may take long for a large image,
// and one that hangs must end at some time.
const pullTimeout = time.Hour

// Image is what inspect says of an image, as far as it is used here.
type Image struct {
	ID           string   `json:"Id"`
	Digest       string   `json:"Digest"`
	RepoTags     []string `json:"RepoTags"`
	RepoDigests  []string `json:"RepoDigests"`
	Architecture string   `json:"Architecture"`
	Os           string   `json:"Os"`
	Config       struct {
		User       string            `json:"User"`
		Env        []string          `json:"Env"`
		Entrypoint []string          `json:"Entrypoint"`
		Cmd        []string          `json:"Cmd"`
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels"`
	} `json:"Config"`
}

// InspectImage looks at an image by reference or id; found is false when it is
// not on the device.
func (c *Client) InspectImage(ctx context.Context, image string) (out Image, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = c.call(ctx, http.MethodGet, "/images/"+image+"/json", nil, nil, &out)
	if hasStatus(err, http.StatusNotFound) {
		return Image{}, false, nil
	}
	if err != nil {
		return Image{}, false, fmt.Errorf("look for image %s: %w", image, err)
	}
	return out, true, nil
}

// pullRequest is one pull. With plainHTTP the registry is spoken to without
// TLS if it does not offer it; that is for registries that the device's
// configuration names.
type pullRequest struct {
	image     string
	plainHTTP bool
	login     *login
}

// Pull fetches an image, also when one of its name is there.
func (c *Client) Pull(ctx context.Context, r pullRequest) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	query := url.Values{"reference": {r.image}, "policy": {"always"}}
	if r.plainHTTP {
		query.Set("tlsVerify", "false")
	}
	header := http.Header{}
	if r.login != nil {
		// One login, not a map of them: of a map Podman makes a file.
		data, err := json.Marshal(map[string]string{"username": r.login.user, "password": r.login.password})
		if err != nil {
			return fmt.Errorf("pull image %s: encode credentials: %w", r.image, err)
		}
		header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(data))
	}
	resp, err := c.sendWith(ctx, request{method: http.MethodPost, path: "/images/pull", query: query, header: header})
	if err != nil {
		return fmt.Errorf("pull image %s: %w", r.image, err)
	}
	defer resp.Body.Close()
	if err := pullOutcome(resp.Body); err != nil {
		return fmt.Errorf("pull image %s: %w", r.image, err)
	}
	return nil
}

// Load takes the images of an archive, as `podman save` makes them, and gives
// their names.
func (c *Client) Load(ctx context.Context, path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load images: %w", err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	header := http.Header{"Content-Type": {"application/x-tar"}}
	resp, err := c.sendWith(ctx, request{method: http.MethodPost, path: "/images/load", header: header, body: f})
	if err != nil {
		return nil, fmt.Errorf("load images from %s: %w", path, err)
	}
	defer resp.Body.Close()
	var out struct{ Names []string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return nil, fmt.Errorf("load images from %s: %w", path, err)
	}
	return out.Names, nil
}

// RemoveImage deletes an image, or only one of its names. One that a container
// has, or that is gone, is left as it is.
func (c *Client) RemoveImage(ctx context.Context, image string) (removed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = c.call(ctx, http.MethodDelete, "/images/"+image, nil, nil, nil)
	if hasStatus(err, http.StatusNotFound) || hasStatus(err, http.StatusConflict) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove image %s: %w", short(image), err)
	}
	return true, nil
}

// pullOutcome reads the stream of reports that a pull answers with: it is
// accepted with 200 before anything was fetched, and says in the stream what
// became of it.
func pullOutcome(stream io.Reader) error {
	dec := json.NewDecoder(stream)
	pulled := false
	for {
		var report struct {
			Error  string   `json:"error"`
			Images []string `json:"images"`
			ID     string   `json:"id"`
		}
		switch err := dec.Decode(&report); {
		case errors.Is(err, io.EOF) && pulled:
			return nil
		case errors.Is(err, io.EOF):
			return errors.New("Podman ended the pull without an image")
		case err != nil:
			return fmt.Errorf("follow the pull: %w", err)
		case report.Error != "":
			return errors.New(strings.TrimSpace(report.Error))
		}
		pulled = pulled || len(report.Images) > 0 || report.ID != ""
	}
}
