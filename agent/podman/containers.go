package podman

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Container is what inspect says, as far as it is used here.
type Container struct {
	ID           string          `json:"Id"`
	Name         string          `json:"Name"`
	Path         string          `json:"Path"` // the program, then its arguments
	Args         []string        `json:"Args"`
	ImageID      string          `json:"Image"`
	ImageName    string          `json:"ImageName"`
	ImageDigest  string          `json:"ImageDigest"`
	RestartCount int             `json:"RestartCount"`
	State        ContainerState  `json:"State"`
	Config       ContainerConfig `json:"Config"`
	HostConfig   HostConfig      `json:"HostConfig"`
	Mounts       []InspectMount  `json:"Mounts"`

	interrupted bool // a reboot ended it, rather than it itself
}

// ContainerState is the state part of inspect.
type ContainerState struct {
	Status     string    `json:"Status"`
	PID        int       `json:"Pid"`
	ExitCode   int       `json:"ExitCode"`
	Error      string    `json:"Error"`
	OOMKilled  bool      `json:"OOMKilled"`
	StartedAt  time.Time `json:"StartedAt"` // before 1970 when it never started
	FinishedAt time.Time `json:"FinishedAt"`
}

// ContainerConfig is the config part of inspect.
type ContainerConfig struct {
	Labels      map[string]string `json:"Labels"`
	Env         []string          `json:"Env"`
	User        string            `json:"User"`
	WorkingDir  string            `json:"WorkingDir"`
	StopTimeout *uint             `json:"StopTimeout"` // seconds
}

// HostConfig is the part of inspect about the host's side of a container.
type HostConfig struct {
	PortBindings  map[string][]PortBinding `json:"PortBindings"`
	RestartPolicy struct {
		Name string `json:"Name"`
	} `json:"RestartPolicy"`
	NetworkMode string            `json:"NetworkMode"`
	Tmpfs       map[string]string `json:"Tmpfs"` // by path
	CPUPeriod   uint64            `json:"CpuPeriod"`
	CPUQuota    int64             `json:"CpuQuota"`
	Memory      int64             `json:"Memory"` // bytes
}

// PortBinding is one host port in inspect; its key there is "80/tcp".
type PortBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string `json:"HostPort"`
}

// InspectMount is one mount in inspect.
type InspectMount struct {
	Type        string `json:"Type"`
	Source      string `json:"Source"`
	Destination string `json:"Destination"`
	RW          bool   `json:"RW"`
}

// Summary is one container in a list.
type Summary struct {
	ID     string            `json:"Id"`
	Names  []string          `json:"Names"`
	Labels map[string]string `json:"Labels"`
	State  string            `json:"State"`
}

// List gives all containers, running or not, that carry every one of the
// labels ("key" or "key=value").
func (c *Client) List(ctx context.Context, labels ...string) ([]Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	filters, err := json.Marshal(map[string][]string{"label": labels})
	if err != nil {
		return nil, fmt.Errorf("encode filters: %w", err)
	}
	var out []Summary
	query := url.Values{"all": {"true"}, "filters": {string(filters)}}
	if err := c.call(ctx, http.MethodGet, "/containers/json", query, nil, &out); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return out, nil
}

// Inspect looks at one container by id or name; found is false when there is
// none.
func (c *Client) Inspect(ctx context.Context, container string) (found bool, out Container, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = c.call(ctx, http.MethodGet, "/containers/"+container+"/json", nil, nil, &out)
	if hasStatus(err, http.StatusNotFound) {
		return false, Container{}, nil
	}
	if err != nil {
		return false, Container{}, fmt.Errorf("inspect container %s: %w", short(container), err)
	}
	out.Name = strings.TrimPrefix(out.Name, "/")
	return true, out, nil
}

// Create makes a container and gives its id. It does not start it.
func (c *Client) Create(ctx context.Context, spec Spec) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var out struct {
		ID string `json:"Id"`
	}
	if err := c.call(ctx, http.MethodPost, "/containers/create", nil, spec, &out); err != nil {
		return "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	return out.ID, nil
}

// Start starts a container; one that runs already is fine.
func (c *Client) Start(ctx context.Context, id string) error {
	return c.act(ctx, callTimeout, http.MethodPost, id, "start", nil)
}

// Unpause lets a paused container go on.
func (c *Client) Unpause(ctx context.Context, id string) error {
	return c.act(ctx, callTimeout, http.MethodPost, id, "unpause", nil)
}

// Rename gives a container another name, running or not.
func (c *Client) Rename(ctx context.Context, id, name string) error {
	return c.act(ctx, callTimeout, http.MethodPost, id, "rename", url.Values{"name": {name}})
}

// Stop sends SIGTERM, waits for up to timeout and then sends SIGKILL. One that
// does not run, or is gone, is fine.
func (c *Client) Stop(ctx context.Context, id string, timeout time.Duration) error {
	query := url.Values{"timeout": {strconv.Itoa(int(timeout.Seconds()))}}
	err := c.act(ctx, timeout+callTimeout, http.MethodPost, id, "stop", query)
	if hasStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// Remove deletes a container and its anonymous volumes, killing it if it still
// runs. One that is gone is fine.
func (c *Client) Remove(ctx context.Context, id string) error {
	query := url.Values{"force": {"true"}, "v": {"true"}, "timeout": {"0"}}
	err := c.act(ctx, callTimeout, http.MethodDelete, id, "", query)
	if hasStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

func (c *Client) act(ctx context.Context, timeout time.Duration, method, id, verb string, query url.Values) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	path := "/containers/" + id
	if verb != "" {
		path += "/" + verb
	} else {
		verb = "remove"
	}
	if err := c.call(ctx, method, path, query, nil, nil); err != nil {
		return fmt.Errorf("%s container %s: %w", verb, short(id), err)
	}
	return nil
}

// short is a container id as people know it: its first 12 digits. Names stay.
func short(id string) string {
	if len(id) == 64 {
		return id[:12]
	}
	return id
}
