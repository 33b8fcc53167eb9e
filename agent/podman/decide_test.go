package podman

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/wire"
)

func contextWithTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

func wanted(t *testing.T, uid string, s wire.Service) *want {
	t.Helper()
	w, err := newWant(&wire.DesiredState{Deployment: "web", UID: uid}, s, material{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestDecide(t *testing.T) {
	w := wanted(t, "uid", wire.Service{Name: "a", Image: "x/a"})
	container := func(id, status string, change func(*Container)) Container {
		c := containerOf(id, w.spec)
		c.State.Status = status
		if change != nil {
			change(&c)
		}
		return c
	}
	other := func(c *Container) { c.Config.Labels = map[string]string{labelHash: "other"} }
	named := func(c *Container) { c.Name = "else" }
	policy := func(p wire.RestartPolicy) *want {
		changed := *w
		changed.policy = p
		return &changed
	}
	byHand := *w
	byHand.stopped = true
	for name, tc := range map[string]struct {
		want *want
		have []Container
		verb verb
		id   string
	}{
		"nothing there":               {w, nil, create, ""},
		"nothing wanted or there":     {nil, nil, settled, ""},
		"running":                     {w, []Container{container("1", "running", nil)}, settled, "1"},
		"made, not started":           {w, []Container{container("1", "created", nil)}, start, "1"},
		"exited":                      {w, []Container{container("1", "exited", nil)}, start, "1"},
		"paused":                      {w, []Container{container("1", "paused", nil)}, unpause, "1"},
		"stopping":                    {w, []Container{container("1", "stopping", nil)}, wait, "1"},
		"removing":                    {w, []Container{container("1", "removing", nil)}, wait, "1"},
		"broken":                      {w, []Container{container("1", "dead", nil)}, replace, "1"},
		"another specification":       {w, []Container{container("1", "running", other)}, replace, "1"},
		"another one, going":          {w, []Container{container("1", "removing", other)}, wait, "1"},
		"renamed":                     {w, []Container{container("1", "running", named)}, rename, "1"},
		"no longer wanted":            {nil, []Container{container("1", "running", nil)}, remove, "1"},
		"no longer wanted, going":     {nil, []Container{container("1", "removing", nil)}, wait, "1"},
		"two, one right":              {w, []Container{container("1", "running", other), container("2", "exited", nil)}, remove, "1"},
		"two right, one runs":         {w, []Container{container("1", "running", nil), container("2", "exited", nil)}, remove, "2"},
		"two right, one has the name": {w, []Container{container("1", "running", named), container("2", "running", nil)}, remove, "1"},
		"job done":                    {policy(wire.RestartNo), []Container{container("1", "exited", nil)}, settled, "1"},
		"job not begun":               {policy(wire.RestartNo), []Container{container("1", "created", nil)}, start, "1"},
		"ended well":                  {policy(wire.RestartOnFailure), []Container{container("1", "exited", nil)}, settled, "1"},
		"ended badly":                 {policy(wire.RestartOnFailure), []Container{container("1", "exited", func(c *Container) { c.State.ExitCode = 1 })}, start, "1"},
		"stopped by hand, runs":       {&byHand, []Container{container("1", "running", other)}, halt, "1"},
		"stopped by hand":             {&byHand, []Container{container("1", "exited", other)}, settled, "1"},
		"stopped by hand, none there": {&byHand, nil, settled, ""},
		"ended by a reboot":           {policy(wire.RestartOnFailure), []Container{container("1", "exited", func(c *Container) { c.interrupted = true })}, start, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := decide(tc.want, reality{}, tc.have)
			if got.verb != tc.verb || got.container.ID != tc.id {
				t.Errorf("got verb %d of container %q, want %d of %q", got.verb, got.container.ID, tc.verb, tc.id)
			}
		})
	}
}

func TestNormalize(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("0", 64)
	for in, want := range map[string]string{
		"nginx":                           "docker.io/library/nginx:latest",
		"nginx:1":                         "docker.io/library/nginx:1",
		"grafana/grafana":                 "docker.io/grafana/grafana:latest",
		"ghcr.io/a/b:1":                   "ghcr.io/a/b:1",
		"localhost/a":                     "localhost/a:latest",
		"192.168.122.1:5000/hello:v1":     "192.168.122.1:5000/hello:v1",
		"registry:5000/hello":             "registry:5000/hello:latest",
		"nginx" + digest:                  "docker.io/library/nginx" + digest,
		"ghcr.io/a/b:1" + digest:          "ghcr.io/a/b" + digest,
		"registry:5000/a/b/c:v1" + digest: "registry:5000/a/b/c" + digest,
	} {
		if got := normalize(in); got != want {
			t.Errorf("normalize(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestSpec(t *testing.T) {
	base := wire.Service{
		Name: "a", Image: "x/a", Ports: []string{"8080:80", "[::1]:53:53/udp"},
		Env:     []wire.EnvVar{{Name: "B", Value: "1"}, {Name: "A", Value: "2"}},
		Volumes: []wire.Volume{{HostPath: "/srv", ContainerPath: "/data", ReadOnly: true}},
	}
	w := wanted(t, "uid-1", base)
	if w.spec.RestartPolicy != "unless-stopped" || w.spec.StopTimeout != 300 {
		t.Errorf("defaults: %q, %d s", w.spec.RestartPolicy, w.spec.StopTimeout)
	}
	if p := w.spec.PortMappings; p[0] != (PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}) || p[1] != (PortMapping{HostIP: "::1", HostPort: 53, ContainerPort: 53, Protocol: "udp"}) {
		t.Errorf("ports: %+v", p)
	}
	if m := w.spec.Mounts[0]; m.Source != "/srv" || m.Destination != "/data" || strings.Join(m.Options, ",") != "rbind,ro" {
		t.Errorf("mount: %+v", m)
	}
	hashOf := func(uid string, change func(*wire.Service)) string {
		s := base
		if change != nil {
			change(&s)
		}
		return wanted(t, uid, s).hash
	}
	if hashOf("uid-2", nil) != w.hash {
		t.Error("a Deployment made anew restarts its containers")
	}
	seen := map[string]string{w.hash: "base"}
	for name, change := range map[string]func(*wire.Service){
		"image":   func(s *wire.Service) { s.Image = "x/b" },
		"ports":   func(s *wire.Service) { s.Ports = nil },
		"env":     func(s *wire.Service) { s.Env = s.Env[:1] },
		"volumes": func(s *wire.Service) { s.Volumes = nil },
		"restart": func(s *wire.Service) { s.RestartPolicy = wire.RestartNo },
		"stop":    func(s *wire.Service) { s.StopTimeout = &wire.Duration{Duration: time.Second} },
		"command": func(s *wire.Service) { s.Command = []string{"a"} },
		"entry":   func(s *wire.Service) { s.Entrypoint = []string{"a"} },
		"user":    func(s *wire.Service) { s.User = "1" },
		"dir":     func(s *wire.Service) { s.WorkingDir = "/a" },
		"labels":  func(s *wire.Service) { s.Labels = map[string]string{"a": "b"} },
		"cpus":    func(s *wire.Service) { s.Limits = &wire.Limits{CPUs: "1"} },
		"memory":  func(s *wire.Service) { s.Limits = &wire.Limits{Memory: "64Mi"} },
		"devices": func(s *wire.Service) { s.Devices = []string{"/dev/null"} },
		"tmpfs":   func(s *wire.Service) { s.Tmpfs = []wire.Tmpfs{{Path: "/t"}} },
		"network": func(s *wire.Service) { s.NetworkMode = wire.NetworkHost },
	} {
		h := hashOf("uid-1", change)
		if seen[h] != "" {
			t.Errorf("a change of %s gives the hash of %s", name, seen[h])
		}
		seen[h] = name
	}
	for name, change := range map[string]func(*wire.Service){
		"health check": func(s *wire.Service) { s.HealthCheck = &wire.HealthCheck{Command: []string{"a"}} },
		"order":        func(s *wire.Service) { s.DependsOn = []string{"b"} },
		"pull policy":  func(s *wire.Service) { s.PullPolicy = wire.PullAlways },
		"credentials":  func(s *wire.Service) { s.RegistryCredentials = "r" },
		"private":      func(s *wire.Service) { s.NetworkMode = wire.NetworkPrivate },
	} {
		if hashOf("uid-1", change) != w.hash {
			t.Errorf("a change of the %s replaces the container", name)
		}
	}
}

// The hash of what could be said from the beginning stays: another one would
// replace every container in the field when the agent is upgraded.
func TestHashIsKept(t *testing.T) {
	w := wanted(t, "uid", wire.Service{Name: "a", Image: "x/a:1", Ports: []string{"8080:80"}, Env: []wire.EnvVar{{Name: "A", Value: "b"}},
		Volumes: []wire.Volume{{HostPath: "/srv", ContainerPath: "/data"}}})
	if want := "f609914aa2fe2523"; w.hash != want {
		t.Errorf("hash %s, was %s", w.hash, want)
	}
}
