package podman

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nationtech/fleetctl/agent/disk"
)

// reality is what a container is compared with: the service, and the image
// that its reference stands for. Each may be unknown.
type reality struct {
	resolution *disk.Resolution
	image      *Image // of resolution; nil when it is not on the device any more
	// accepted gives what was different already when we had just made the
	// container: another Podman's way of putting it, and no drift.
	accepted func(container string) []string
}

// drift is the difference that is to be repaired.
func (with reality) drift(w *want, c Container) []string {
	out := drift(w, with, c)
	if len(out) == 0 || with.accepted == nil {
		return out
	}
	accepted := with.accepted(c.ID)
	return slices.DeleteFunc(out, func(what string) bool { return slices.Contains(accepted, what) })
}

// added are the variables that Podman itself puts into a container.
var added = []string{
	"container", "HOME", "HOSTNAME", "PATH", "TERM",
	"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY",
}

// drift names everything in which a container is not what its service says. A
// default that Podman filled in is no difference. What inspect cannot give
// back (such as devices) is covered by the hash in a label.
func drift(w *want, with reality, c Container) []string {
	var out []string
	check := func(what string, same bool) {
		if !same {
			out = append(out, what)
		}
	}
	check("specification", c.Config.Labels[labelHash] == w.hash)
	if r := with.resolution; r != nil {
		check("image", bareID(c.ImageID) == r.ID)
	}
	check("ports", sameItems(portsOf(w.spec), portsIn(c)))
	check("mounts", sameItems(mountsOf(w.spec), mountsIn(c)))
	check("restart policy", c.HostConfig.RestartPolicy.Name == w.spec.RestartPolicy)
	check("stop timeout", c.Config.StopTimeout == nil || *c.Config.StopTimeout == w.spec.StopTimeout)
	check("network", networkOf(w.spec) == networkIn(c))
	quota, memory := limitsOf(w.spec)
	check("cpu limit", c.HostConfig.CPUQuota == quota)
	check("memory limit", c.HostConfig.Memory == memory)
	check("labels", hasLabels(w.spec.Labels, c.Config.Labels))
	if w.spec.User != "" {
		check("user", c.Config.User == w.spec.User)
	}
	if w.spec.WorkDir != "" {
		check("working directory", c.Config.WorkingDir == w.spec.WorkDir)
	}
	if with.image == nil {
		return out
	}
	check("environment", sameEnv(w.spec.Env, with.image.Config.Env, c.Config.Env))
	if argv := argvOf(w, with.image); len(argv) > 0 {
		// Of a program without arguments Podman gives the name twice.
		alone := len(argv) == 1 && slices.Equal(argv, c.Args)
		check("command", alone || slices.Equal(argv, append([]string{c.Path}, c.Args...)))
	}
	if w.spec.User == "" {
		check("user", c.Config.User == with.image.Config.User)
	}
	return out
}

// argvOf is what the container runs (libpod's specgen: the image's command is
// for the image's entrypoint only).
func argvOf(w *want, image *Image) []string {
	entrypoint, command := w.spec.Entrypoint, w.spec.Command
	if len(command) == 0 && len(entrypoint) == 0 {
		command = image.Config.Cmd
	}
	if len(entrypoint) == 0 {
		entrypoint = image.Config.Entrypoint
	}
	argv := slices.Concat(entrypoint, command)
	if w.material.env {
		return slices.Concat([]string{insideRunner, "exec", insideEnv, "--"}, argv)
	}
	return argv
}

func sameItems(a, b []string) bool {
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func portsOf(s Spec) []string {
	var out []string
	for _, p := range s.PortMappings {
		out = append(out, portText(p.HostIP, strconv.Itoa(int(p.HostPort)), strconv.Itoa(int(p.ContainerPort))+"/"+p.Protocol))
	}
	return out
}

func portsIn(c Container) []string {
	var out []string
	for inside, bindings := range c.HostConfig.PortBindings {
		for _, b := range bindings {
			out = append(out, portText(b.HostIP, b.HostPort, inside))
		}
	}
	return out
}

func portText(ip, host, container string) string {
	if ip == "0.0.0.0" || ip == "::" {
		ip = ""
	}
	return ip + ":" + host + ":" + container
}

func mountsOf(s Spec) []string {
	var out []string
	for _, m := range s.Mounts {
		if m.Type == "tmpfs" {
			out = append(out, "tmpfs:"+m.Destination)
			continue
		}
		out = append(out, m.Source+":"+m.Destination+":"+m.Options[len(m.Options)-1])
	}
	return out
}

// mountsIn leaves out volumes, which Podman makes for an image that has some.
func mountsIn(c Container) []string {
	var out []string
	for _, m := range c.Mounts {
		if m.Type != "bind" {
			continue
		}
		access := "ro"
		if m.RW {
			access = "rw"
		}
		out = append(out, m.Source+":"+m.Destination+":"+access)
	}
	for path := range c.HostConfig.Tmpfs {
		out = append(out, "tmpfs:"+path)
	}
	return out
}

func networkOf(s Spec) string {
	if s.NetNS != nil && (s.NetNS.Mode == "host" || s.NetNS.Mode == "none") {
		return s.NetNS.Mode
	}
	return "private"
}

// networkIn takes every network of its own for the same: which program
// connects it is Podman's affair.
func networkIn(c Container) string {
	mode, _, _ := strings.Cut(c.HostConfig.NetworkMode, ":")
	switch mode {
	case "host", "none":
		return mode
	case "", "slirp4netns", "pasta", "private", "default":
		return "private"
	}
	return c.HostConfig.NetworkMode
}

func limitsOf(s Spec) (quota, memory int64) {
	if s.ResourceLimits == nil {
		return 0, 0
	}
	if s.ResourceLimits.CPU != nil {
		quota = s.ResourceLimits.CPU.Quota
	}
	if s.ResourceLimits.Memory != nil {
		memory = s.ResourceLimits.Memory.Limit
	}
	return quota, memory
}

// hasLabels passes over the uid: a Deployment that was made anew with the same
// content keeps its containers.
func hasLabels(want, have map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; k != labelUID && (!ok || got != v) {
			return false
		}
	}
	return true
}

func sameEnv(want map[string]string, image, have []string) bool {
	expected := map[string]string{}
	for _, pair := range image {
		k, v, _ := strings.Cut(pair, "=")
		expected[k] = v
	}
	maps.Copy(expected, want)
	got := map[string]string{}
	for _, pair := range have {
		k, v, _ := strings.Cut(pair, "=")
		got[k] = v
	}
	for k, v := range expected {
		if value, there := got[k]; !there || value != v {
			return false
		}
	}
	for k := range got {
		if _, ok := expected[k]; !ok && !slices.Contains(added, k) {
			return false
		}
	}
	return true
}
