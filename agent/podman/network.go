package podman

import (
	"context"
	"net/http"
)

// pastaOptions give the container an address of its own. Without them pasta
// copies the host's addresses and routes, and a device that boots without a
// network starts no container at all: "Couldn't set IPv4 route(s) in guest"
// (passt 2025_05_03 with the cable out). Podman adds DNS to them.
var pastaOptions = []string{"--address", "10.0.2.15", "--netmask", "24", "--gateway", "10.0.2.2"}

// Namespace is how a container gets a namespace.
type Namespace struct {
	Mode string `json:"nsmode"`
}

// network completes the spec with what this Podman's rootless network needs.
// It is no part of the spec's hash: an upgrade of Podman replaces nothing.
func (r *Runtime) network(ctx context.Context, spec Spec) (Spec, error) {
	r.mu.Lock()
	known, pasta := r.networkKnown, r.pasta
	r.mu.Unlock()
	if !known {
		command, err := r.client.rootlessNetwork(ctx)
		if err != nil {
			return spec, err
		}
		pasta = command == "pasta"
		r.mu.Lock()
		r.networkKnown, r.pasta = true, pasta
		r.mu.Unlock()
	}
	if pasta {
		spec.NetNS = &Namespace{Mode: "pasta"}
		spec.NetworkOptions = map[string][]string{"pasta": pastaOptions}
	}
	return spec, nil
}

// rootlessNetwork gives the program that connects rootless containers; Podman
// before 5.0 does not say.
func (c *Client) rootlessNetwork(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var info struct {
		Host struct {
			RootlessNetworkCmd string `json:"rootlessNetworkCmd"`
		} `json:"host"`
	}
	err := c.call(ctx, http.MethodGet, "/info", nil, nil, &info)
	return info.Host.RootlessNetworkCmd, err
}
