package podman

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/agent/disk"
	"github.com/nationtech/fleetctl/internal/wire"
)

const patience = 10 * time.Second

// fake is Podman as far as Runtime uses it, with state that a test can look at
// and change. A call that it does not know fails the test.
type fake struct {
	t      *testing.T
	client *Client
	mux    *http.ServeMux

	mu         sync.Mutex
	passes     sync.Mutex
	next       int
	containers map[string]*Container
	images     map[string]bool
	pulls      []string                        // with "?tlsVerify=false" where asked for
	pullFails  map[string]string               // image → error in the stream
	startFails map[string]string               // name → error
	hold       map[string]chan struct{}        // container name → its stop returns when closed
	ran        map[string]func(spec *Spec) int // name → exit code of a run that ends at once
	log        []string                        // changes: "create name", "remove name", …
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{
		t: t, containers: map[string]*Container{}, images: map[string]bool{}, pullFails: map[string]string{},
		startFails: map[string]string{}, hold: map[string]chan struct{}{}, ran: map[string]func(*Spec) int{},
	}
	socket := filepath.Join(t.TempDir(), "p.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	f.mux = mux
	handle := f.serve
	handle("GET /containers/json", f.list)
	handle("GET /containers/{id}/json", f.inspect)
	handle("POST /containers/create", f.create)
	handle("POST /containers/{id}/start", f.start)
	handle("POST /containers/{id}/stop", f.stop)
	handle("POST /containers/{id}/unpause", f.unpause)
	handle("POST /containers/{id}/rename", f.rename)
	handle("DELETE /containers/{id}", f.remove)
	handle("GET /images/{rest...}", f.image)
	handle("POST /images/pull", f.pull)
	handle("GET /info", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, map[string]any{}) })
	handle("GET /version", func(w http.ResponseWriter, _ *http.Request) { reply(w, 200, Version{Version: "5.4.2"}) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("unexpected call: %s %s", r.Method, r.URL)
		reply(w, 501, nil)
	})
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	server.Start()
	t.Cleanup(server.Close)
	f.client = NewClient(socket)
	return f
}

// serve answers one more call of the libpod API.
func (f *fake) serve(pattern string, h http.HandlerFunc) {
	method, path, _ := strings.Cut(pattern, " ")
	f.mux.HandleFunc(method+" /v4.0.0/libpod"+path, h)
}

// runtime makes a Runtime that works on the fake until the test ends: as the
// agent does, it makes a pass whenever one is due.
func (f *fake) runtime(insecure ...string) *Runtime {
	f.t.Helper()
	runs, err := disk.OpenRuns(f.t.TempDir(), "this-boot")
	if err != nil {
		f.t.Fatal(err)
	}
	images, err := disk.OpenImages(f.t.TempDir())
	if err != nil {
		f.t.Fatal(err)
	}
	intents, err := disk.OpenIntents(f.t.TempDir())
	if err != nil {
		f.t.Fatal(err)
	}
	r := New(Config{Client: f.client, InsecureRegistries: insecure, Runs: runs, Images: images, Intents: intents, Log: slog.New(slog.NewTextHandler(f.t.Output(), nil))})
	done := make(chan struct{})
	ctx := f.t.Context()
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-r.Again():
				_ = f.pass(ctx, r)
			}
		}
	}()
	f.t.Cleanup(func() { <-done; r.Wait() })
	return r
}

// pass makes one pass, and settle waits until nobody works: one at a time, as the
// agent does.
func (f *fake) pass(ctx context.Context, r *Runtime) error {
	f.passes.Lock()
	defer f.passes.Unlock()
	return r.Reconcile(ctx)
}

func (f *fake) settle(r *Runtime) {
	f.passes.Lock()
	defer f.passes.Unlock()
	r.Wait()
}

// apply sets what is desired and makes a pass.
func (f *fake) apply(r *Runtime, states ...wire.DesiredState) {
	f.t.Helper()
	r.Set(states, nil)
	if err := f.pass(f.t.Context(), r); err != nil {
		f.t.Fatal(err)
	}
}

// await waits for States to satisfy ok.
func (f *fake) await(r *Runtime, what string, ok func(map[string]wire.DeploymentState) bool) map[string]wire.DeploymentState {
	f.t.Helper()
	deadline := time.After(patience)
	for {
		states := map[string]wire.DeploymentState{}
		for _, s := range r.States() {
			states[s.Name] = s
		}
		if ok(states) {
			return states
		}
		select {
		case <-r.Changed():
		case <-deadline:
			f.t.Fatalf("%s: not within %s; states: %+v; changes: %v", what, patience, states, f.changes())
		}
	}
}

func (f *fake) changes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.log...)
}

// status is that of a container; "" when there is none.
func (f *fake) status(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(name); c != nil {
		return c.State.Status
	}
	return ""
}

// add puts a container there that nobody created through the API.
func (f *fake) add(name, status string, labels map[string]string) *Container {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	c := &Container{ID: fmt.Sprintf("%064d", f.next), Name: name}
	c.State.Status = status
	c.Config.Labels = labels
	f.containers[c.ID] = c
	return c
}

func (f *fake) find(id string) *Container {
	if c := f.containers[id]; c != nil {
		return c
	}
	for _, c := range f.containers {
		if c.Name == id {
			return c
		}
	}
	return nil
}

// change looks up the container of a request that changes it. One that is not
// ours must never get here.
func (f *fake) change(w http.ResponseWriter, r *http.Request, verb string) *Container {
	c := f.find(r.PathValue("id"))
	if c == nil {
		reply(w, 404, APIError{Status: 404, Message: "no such container"})
		return nil
	}
	if _, ours := keyOf(c.Config.Labels); !ours {
		f.t.Errorf("%s of %s, which is not ours", verb, c.Name)
	}
	f.log = append(f.log, verb+" "+c.Name)
	return c
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var filters map[string][]string
	if err := json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters); err != nil || r.URL.Query().Get("all") != "true" {
		f.t.Errorf("list: %s", r.URL)
	}
	out := []Summary{}
	for _, c := range f.containers {
		match := true
		for _, label := range filters["label"] {
			name, value, _ := strings.Cut(label, "=")
			match = match && c.Config.Labels[name] == value
		}
		if match {
			out = append(out, Summary{ID: c.ID, Names: []string{c.Name}, Labels: c.Config.Labels, State: c.State.Status})
		}
	}
	reply(w, 200, out)
}

func (f *fake) inspect(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.find(r.PathValue("id")); c != nil {
		reply(w, 200, c)
		return
	}
	reply(w, 404, APIError{Status: 404, Message: "no such container"})
}

func (f *fake) create(w http.ResponseWriter, r *http.Request) {
	var spec Spec
	if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	taken := f.find(spec.Name) != nil
	present := f.images[spec.Image]
	f.mu.Unlock()
	if taken {
		reply(w, 409, APIError{Status: 409, Message: "name is in use"})
		return
	}
	if !present {
		reply(w, 404, APIError{Status: 404, Message: "no such image"})
		return
	}
	c := f.add(spec.Name, "created", spec.Labels)
	f.mu.Lock()
	defer f.mu.Unlock()
	*c = containerOf(c.ID, spec)
	c.State.Status = "created"
	f.log = append(f.log, "create "+spec.Name)
	reply(w, 201, map[string]string{"Id": c.ID})
}

func (f *fake) start(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.change(w, r, "start")
	if c == nil {
		return
	}
	if text := f.startFails[c.Name]; text != "" {
		reply(w, 500, APIError{Status: 500, Message: text})
		return
	}
	c.State.Status, c.State.StartedAt = "running", time.Now()
	if run := f.ran[c.Name]; run != nil {
		c.State.Status, c.State.ExitCode = "exited", run(nil)
	}
	reply(w, 204, nil)
}

func (f *fake) stop(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	c := f.change(w, r, "stop")
	if c == nil {
		f.mu.Unlock()
		return
	}
	hold := f.hold[c.Name]
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.State.Status = "exited"
	reply(w, 204, nil)
}

func (f *fake) unpause(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.change(w, r, "unpause"); c != nil {
		c.State.Status = "running"
		reply(w, 204, nil)
	}
}

func (f *fake) rename(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.change(w, r, "rename"); c != nil {
		c.Name = r.URL.Query().Get("name")
		reply(w, 204, nil)
	}
}

func (f *fake) remove(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.change(w, r, "remove"); c != nil {
		delete(f.containers, c.ID)
		reply(w, 200, []any{})
	}
}

// containerOf is what inspect gives of a container that was just made.
func containerOf(id string, s Spec) Container {
	c := Container{ID: id, Name: s.Name, ImageID: "id-" + s.Image, ImageName: s.Image}
	c.Config.Labels = s.Labels
	c.Config.StopTimeout = &s.StopTimeout
	c.HostConfig.RestartPolicy.Name = s.RestartPolicy
	c.HostConfig.PortBindings = map[string][]PortBinding{}
	for _, p := range s.PortMappings {
		inside := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
		c.HostConfig.PortBindings[inside] = append(c.HostConfig.PortBindings[inside], PortBinding{HostIP: p.HostIP, HostPort: fmt.Sprint(p.HostPort)})
	}
	for _, m := range s.Mounts {
		c.Mounts = append(c.Mounts, InspectMount{Type: m.Type, Source: m.Source, Destination: m.Destination, RW: m.Options[len(m.Options)-1] == "rw"})
	}
	for k, v := range s.Env {
		c.Config.Env = append(c.Config.Env, k+"="+v)
	}
	return c
}

func (f *fake) image(w http.ResponseWriter, r *http.Request) {
	image, inspect := strings.CutSuffix(r.PathValue("rest"), "/json")
	if !inspect {
		f.t.Errorf("unexpected call: %s", r.URL)
	}
	image = strings.TrimPrefix(image, "id-")
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.images[image] {
		reply(w, 200, Image{ID: "id-" + image, Digest: "digest-" + image})
		return
	}
	reply(w, 404, APIError{Status: 404, Message: "no such image"})
}

func (f *fake) pull(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	image := query.Get("reference")
	f.mu.Lock()
	defer f.mu.Unlock()
	if query.Has("tlsVerify") {
		f.pulls = append(f.pulls, image+"?tlsVerify="+query.Get("tlsVerify"))
	} else {
		f.pulls = append(f.pulls, image)
	}
	if text := f.pullFails[image]; text != "" {
		reply(w, 200, map[string]string{"stream": "Trying to pull"}, map[string]string{"error": text})
		return
	}
	f.images[image] = true
	reply(w, 200, map[string]string{"stream": "Trying to pull"}, map[string]any{"images": []string{"x"}, "id": "x"})
}

func reply(w http.ResponseWriter, status int, values ...any) {
	w.WriteHeader(status)
	if status == 204 {
		return
	}
	for _, v := range values {
		_ = json.NewEncoder(w).Encode(v)
	}
}
