package sshtest

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// connection is what the channels of one connection share.
type connection struct {
	*Server
	ssh      *ssh.ServerConn
	sessions atomic.Int64
}

func (s *Server) handle(conn net.Conn) {
	sc, channels, requests, err := ssh.NewServerConn(conn, s.ssh)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	c := &connection{Server: s, ssh: sc}
	var running sync.WaitGroup
	defer running.Wait()
	for ch := range channels {
		switch {
		case ch.ChannelType() == "session" && s.config.MaxSessions > 0 && c.sessions.Load() >= int64(s.config.MaxSessions):
			_ = ch.Reject(ssh.ResourceShortage, "open failed")
		case ch.ChannelType() == "session":
			c.sessions.Add(1)
			running.Add(1)
			go func() {
				defer running.Done()
				defer c.sessions.Add(-1)
				c.session(ch)
			}()
		case ch.ChannelType() == "direct-tcpip" && !s.config.NoForward:
			running.Add(1)
			go func() { defer running.Done(); forward(ch) }()
		default:
			_ = ch.Reject(ssh.Prohibited, "not allowed")
		}
	}
}

func (c *connection) session(offer ssh.NewChannel) {
	ch, requests, err := offer.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	for r := range requests {
		ok := false
		var run func() uint32
		switch r.Type {
		case "exec":
			var p struct{ Command string }
			ok = ssh.Unmarshal(r.Payload, &p) == nil
			run = func() uint32 { return c.exec(ch, p.Command) }
		}
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		if !ok {
			continue
		}
		go ssh.DiscardRequests(requests)
		status := struct{ Status uint32 }{run()}
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(&status))
		return
	}
}

// exec runs a command in a process group of its own, which is killed when the
// connection ends: the test leaves no process behind.
func (c *connection) exec(ch ssh.Channel, command string) uint32 {
	if n := int(c.commands.Add(1)); c.config.CutAfterCommands > 0 && n >= c.config.CutAfterCommands {
		_ = c.ssh.Close()
		return 255
	}
	if c.config.Noise != "" {
		_, _ = io.WriteString(ch, c.config.Noise)
		_, _ = io.WriteString(ch.Stderr(), c.config.Noise)
	}
	cmd := exec.Command(c.config.Shell, "-c", command)
	cmd.Env = append(os.Environ(), c.config.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
	in, err := cmd.StdinPipe()
	if err != nil {
		return 255
	}
	if err := cmd.Start(); err != nil {
		_, _ = io.WriteString(ch.Stderr(), err.Error()+"\n")
		return 127
	}
	go func() {
		_, _ = io.Copy(in, ch)
		_ = in.Close()
	}()
	err = cmd.Wait()
	var status *exec.ExitError
	if errors.As(err, &status) {
		return uint32(status.ExitCode())
	}
	return 0
}

// forward connects a direct-tcpip channel (RFC 4254, section 7.2).
func forward(offer ssh.NewChannel) {
	var p struct {
		Host     string
		Port     uint32
		From     string
		FromPort uint32
	}
	if ssh.Unmarshal(offer.ExtraData(), &p) != nil {
		_ = offer.Reject(ssh.ConnectionFailed, "bad request")
		return
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))))
	if err != nil {
		_ = offer.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, requests, err := offer.Accept()
	if err != nil {
		_ = conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	var both sync.WaitGroup
	both.Add(2)
	go func() { defer both.Done(); _, _ = io.Copy(ch, conn); _ = ch.CloseWrite(); _ = ch.Close() }()
	go func() { defer both.Done(); _, _ = io.Copy(conn, ch); _ = conn.Close() }()
	both.Wait()
}
