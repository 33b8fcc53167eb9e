package systemtest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// natsNode builds the program of a NATS server, once a run.
var natsNode = sync.OnceValues(func() (string, error) { return goBuild("./natsnode", "nats-node") })

func goBuild(pkg, name string) (string, error) {
	server, err := binary()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(server), name) // removed with it
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// child is a program that can be killed and started again, as a pod is.
type child struct {
	t      *testing.T
	name   string
	argv   []string
	status string // URL of its health checks; "" when it has none
	log    buffer

	cmd    *exec.Cmd
	stdout *bufio.Scanner
	exited chan struct{}
}

func newChild(t *testing.T, name string, argv ...string) *child {
	t.Helper()
	c := &child{t: t, name: name, argv: argv}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", c.name, tail(c.log.String(), 6000))
		}
	})
	return c
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// start starts the program and waits for nothing.
func (c *child) start() {
	c.t.Helper()
	c.cmd = exec.Command(c.argv[0], c.argv[1:]...)
	c.cmd.Stderr = &c.log
	// Whatever ends this test ends its children.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.stdout = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.exited = make(chan struct{})
}

// reap has to run once for each start; the program's output is read before.
func (c *child) reap() {
	cmd, exited := c.cmd, c.exited
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(exited)
	}()
}

// kill is kill -9; a program that is not running is left as it is.
func (c *child) kill() {
	if c.cmd == nil || c.cmd.Process == nil {
		return
	}
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Errorf("kill %s: %v", c.name, err)
	}
	<-c.exited
}

// terminate asks for a clean stop and wants exit code 0.
func (c *child) terminate() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Errorf("stop %s: %v", c.name, err)
		return
	}
	select {
	case <-c.exited:
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			c.t.Errorf("%s: exit code %d after SIGTERM", c.name, code)
		}
	case <-time.After(stopDeadline):
		c.t.Errorf("%s is still there %s after SIGTERM", c.name, stopDeadline)
	}
}

// ready asks the program whether it is.
func (c *child) ready() error {
	response, err := (&http.Client{Timeout: 2 * time.Second}).Get(c.status + "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s is not ready: %s", c.name, response.Status)
	}
	return nil
}

// freePort gives an address of this machine that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", randomPort()))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
}
