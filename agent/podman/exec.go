package podman

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	// A command's end is known a little after its output's.
	exitWait = 5 * time.Second
	exitPoll = 20 * time.Millisecond
	// killAfter is how long a command may take to end itself, once nobody
	// waits for it any more.
	killAfter = 2 * time.Second
)

// terminal is what a command reads, and the sizes of the person's terminal.
type terminal = interface {
	io.Reader
	Sizes() <-chan wire.Size
}

// Exec runs a command in the container of a service.
func (r *Runtime) Exec(ctx context.Context, req wire.ExecRequest, in terminal, out io.Writer) (int, error) {
	s, err := r.startExec(ctx, req)
	if err != nil {
		return 0, err
	}
	defer s.close()
	// Podman leaves a command alone whose caller has gone.
	stop := context.AfterFunc(ctx, func() {
		s.end()
		s.close()
	})
	defer stop()
	if req.Stdin {
		go s.feed(in)
	}
	if req.TTY {
		go s.follow(ctx, in.Sizes())
		out = stdoutFrames{out}
	}
	if _, err := io.Copy(out, s.output); err != nil {
		return 0, errors.Join(fmt.Errorf("read the output of the command in %s: %w", short(s.container), err), context.Cause(ctx))
	}
	return s.wait(ctx)
}

// startExec starts a command in the container that is known to run, or that
// turns out to. To ask Podman before would be most of the time that a person waits.
func (r *Runtime) startExec(ctx context.Context, req wire.ExecRequest) (*execSession, error) {
	id := r.knownToRun(req.Target)
	if id != "" {
		if s, err := r.client.startExec(ctx, id, req); !hasStatus(err, http.StatusNotFound) && !hasStatus(err, http.StatusConflict) {
			return s, err
		}
	}
	c, err := r.running(ctx, req.Target)
	if err != nil {
		return nil, err
	}
	return r.client.startExec(ctx, c.ID, req)
}

// knownToRun gives the container that t is about, if that is one service which
// ran when it was last looked at; else "".
func (r *Runtime) knownToRun(t wire.Target) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.deployments[t.Deployment]
	if d == nil || t.Service == "" && len(d.order) != 1 {
		return ""
	}
	k := key{t.Deployment, t.Service}
	if t.Service == "" {
		k = d.order[0]
	}
	if w := r.workers[k]; w != nil && w.state.Phase == wire.PhaseRunning {
		return w.state.ContainerID
	}
	return ""
}

// running gives the one running container that t is about.
func (r *Runtime) running(ctx context.Context, t wire.Target) (Summary, error) {
	c, err := r.one(ctx, t)
	if err == nil && c.State != "running" {
		err = &wire.ReplyError{Code: wire.ReplyNotFound, Message: fmt.Sprintf("the container of %s is not running, it is %s", t.Deployment, c.State)}
	}
	return c, err
}

// stdoutFrames makes frames of what a terminal shows.
type stdoutFrames struct{ out io.Writer }

func (s stdoutFrames) Write(p []byte) (int, error) {
	if _, err := s.out.Write(wire.Frame(wire.FrameStdout, p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// execSession is a command under way, on a connection of its own.
type execSession struct {
	client    *Client
	container string
	id        string
	conn      *net.UnixConn
	output    io.Reader
}

func (c *Client) startExec(ctx context.Context, container string, req wire.ExecRequest) (*execSession, error) {
	what := "run a command in container " + short(container)
	create := map[string]any{"Cmd": req.Command, "AttachStdin": req.Stdin, "AttachStdout": true, "AttachStderr": true, "Tty": req.TTY}
	if req.TTY {
		create["Env"] = []string{"TERM=xterm-256color"}
	}
	id, err := c.createExec(ctx, container, create)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	s := &execSession{client: c, container: container, id: id}
	start := map[string]any{"Detach": false, "Tty": req.TTY}
	if req.TTY && req.Size != (wire.Size{}) {
		start["h"], start["w"] = req.Size.Rows, req.Size.Columns
	}
	if err := s.hijack(ctx, "/exec/"+id+"/start", start); err != nil {
		return nil, fmt.Errorf("%s: %w", what, startFailure(err))
	}
	return s, nil
}

// createExec makes a command known to Podman, which does not run it yet.
func (c *Client) createExec(ctx context.Context, container string, create map[string]any) (id string, err error) {
	var made struct {
		ID string `json:"Id"`
	}
	err = c.call(ctx, http.MethodPost, "/containers/"+container+"/exec", nil, create, &made)
	return made.ID, err
}

// startFailure tells a command that is not there from an engine that failed.
func startFailure(err error) error {
	var failed *APIError
	if errors.As(err, &failed) {
		return &wire.ReplyError{Code: wire.ReplyBadRequest, Message: wire.ClipMessage(failed.Error())}
	}
	return err
}

// hijack makes a connection of a request: what follows goes both ways, and the
// input can end before the output does.
func (s *execSession) hijack(ctx context.Context, path string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", s.client.socket)
	if err != nil {
		return s.client.unreachable(err)
	}
	s.conn = conn.(*net.UnixConn)
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	head := "POST " + apiPrefix + path + " HTTP/1.1\r\nHost: podman\r\nContent-Type: application/json\r\n" +
		"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: " + strconv.Itoa(len(data)) + "\r\n\r\n"
	if _, err := conn.Write(append([]byte(head), data...)); err != nil {
		s.close()
		return err
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		s.close()
		return err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols && resp.StatusCode != http.StatusOK {
		defer s.close()
		failed := &APIError{}
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(failed) // the status says enough
		_ = resp.Body.Close()
		failed.Status = resp.StatusCode
		return failed
	}
	s.output = reader
	return nil
}

func (s *execSession) close() { _ = s.conn.Close() }

// feed passes input on; its end is the command's end of input.
func (s *execSession) feed(in io.Reader) {
	if _, err := io.Copy(s.conn, in); err == nil {
		_ = s.conn.CloseWrite() // the command may have ended already
	}
}

// follow passes on the sizes of the person's terminal.
func (s *execSession) follow(ctx context.Context, sizes <-chan wire.Size) {
	for {
		select {
		case <-ctx.Done():
			return
		case size := <-sizes:
			query := url.Values{"h": {strconv.Itoa(int(size.Rows))}, "w": {strconv.Itoa(int(size.Columns))}}
			_ = s.client.call(ctx, http.MethodPost, "/exec/"+s.id+"/resize", query, nil, nil) // the next one may fit better
		}
	}
}

type execState struct {
	Running  bool `json:"Running"`
	ExitCode int  `json:"ExitCode"`
	PID      int  `json:"Pid"`
}

func (c *Client) execState(ctx context.Context, id string) (state execState, err error) {
	err = c.call(ctx, http.MethodGet, "/exec/"+id+"/json", nil, nil, &state)
	return state, err
}

// wait gives the exit code of a command whose output has ended.
func (s *execSession) wait(ctx context.Context) (int, error) {
	for deadline := time.Now().Add(exitWait); ; {
		state, err := s.client.execState(ctx, s.id)
		switch {
		case err != nil:
			return 0, fmt.Errorf("ask for the command's exit code: %w", err)
		case !state.Running:
			return state.ExitCode, nil
		case time.Now().After(deadline):
			return 0, errors.New("the command closed its output and goes on running")
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(exitPoll):
		}
	}
}

// end ends a command that nobody waits for. One of another user of the
// container is out of our reach, and ends when it writes or reads.
func (s *execSession) end() {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	for i, signal := range []unix.Signal{unix.SIGHUP, unix.SIGTERM, unix.SIGKILL} {
		if i > 0 {
			time.Sleep(killAfter)
		}
		state, err := s.client.execState(ctx, s.id)
		if err != nil || !state.Running || state.PID <= 1 {
			return
		}
		if unix.Kill(state.PID, signal) != nil {
			return
		}
	}
}
