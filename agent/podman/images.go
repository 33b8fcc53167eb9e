package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// pullTimeout bounds one pull: a slow line may take long for a large image,
// and one that hangs must end at some time.
const pullTimeout = time.Hour

// ImageExists says whether the image is on the device.
func (c *Client) ImageExists(ctx context.Context, image string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := c.call(ctx, http.MethodGet, "/images/"+image+"/exists", nil, nil, nil)
	if hasStatus(err, http.StatusNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for image %s: %w", image, err)
	}
	return true, nil
}

// Pull fetches an image. With plainHTTP the registry is spoken to without TLS
// if it does not offer it; that is for registries that the device's
// configuration names.
func (c *Client) Pull(ctx context.Context, image string, plainHTTP bool) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	query := url.Values{"reference": {image}, "policy": {"missing"}}
	if plainHTTP {
		query.Set("tlsVerify", "false")
	}
	resp, err := c.send(ctx, http.MethodPost, "/images/pull", query, nil)
	if err != nil {
		return fmt.Errorf("pull image %s: %w", image, err)
	}
	defer resp.Body.Close()
	if err := pullOutcome(resp.Body); err != nil {
		return fmt.Errorf("pull image %s: %w", image, err)
	}
	return nil
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
