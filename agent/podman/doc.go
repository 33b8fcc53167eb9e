// Package podman makes PodmanV0 deployments real on a device: containers over
// the libpod REST API of the user's own Podman.
//
// Runtime takes the full set of deployments and works towards it, each service
// on its own: a pull that fails or a container that takes minutes to stop
// holds up nothing else. It is level-triggered: every step looks at what is
// there before it decides, so it can be interrupted anywhere.
//
// It touches only containers that carry our labels, and looks at them again
// right before each change. It does not fetch, verify or store what is
// desired; that is package agent's part.
package podman
