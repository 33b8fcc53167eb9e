package serverapi_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
	"github.com/nationtech/fleetctl/internal/serverapi/tunnel"
	"github.com/nationtech/fleetctl/internal/wire"
)

// behindIngress puts something between that speaks HTTP/2 to clients and HTTP/1.1
// to the server, and drops trailers, as ingresses do. Paths that it does not know
// are refused, as by a server that is older.
func behindIngress(t *testing.T, c *control, unknown ...string) (client *apiclient.Client, ended <-chan struct{}) {
	t.Helper()
	target := must(url.Parse(c.url))(t)
	tunnels := make(chan struct{}, 10)
	proxy := &httputil.ReverseProxy{
		Transport:      &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.ca.Pool(), NextProtos: []string{"http/1.1"}}, DisableKeepAlives: true},
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error { r.Trailer = nil; return nil },
		FlushInterval:  -1,
	}
	ingress := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, path := range unknown {
			if r.URL.Path == path {
				http.NotFound(w, r)
				return
			}
		}
		if r.URL.Path == tunnel.Path {
			defer func() { tunnels <- struct{}{} }()
		}
		proxy.ServeHTTP(w, r)
	}))
	ingress.TLS = &tls.Config{Certificates: []tls.Certificate{*must(c.ca.ServerCert("ingress", []string{"127.0.0.1"}))(t).Certificate()}}
	ingress.EnableHTTP2 = true
	ingress.StartTLS()
	t.Cleanup(ingress.Close)
	return must(apiclient.New(ingress.URL, c.ca.PEM(), c.token))(t), tunnels
}

func awaitEnd(t *testing.T, ended <-chan struct{}) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("a tunnel is left open")
	}
}

// What takes input and what fails late works behind an ingress as it does without
// one, and leaves no connection open.
func TestBehindIngress(t *testing.T) {
	c := start(t)
	device(t, c, func(command wire.Command) []wire.Reply {
		switch command.Verb {
		case wire.VerbExec:
			return []wire.Reply{{Data: frame(wire.FrameStdout, "out")}, {Data: frame(wire.FrameExit, "\x00\x00\x00\x07"), Done: true}}
		case wire.VerbLogs:
			return []wire.Reply{{Data: frame(wire.FrameStdout, "begun\n")}, {Error: &wire.ReplyError{Code: wire.ReplyFailed, Message: "the log was cut off"}, Done: true}}
		}
		return nil
	})
	client, ended := behindIngress(t, c)
	var out bytes.Buffer
	code, err := client.Exec(timeout(t), "pi-1", inShop, apiclient.Terminal{In: strings.NewReader("hello"), Out: &out, ErrOut: &out})
	if err != nil || code != 7 || out.String() != "out" {
		t.Errorf("exec: exit code %d, %q, %v", code, out.String(), err)
	}
	out.Reset()
	err = client.Logs(timeout(t), "pi-1", wire.LogsRequest{Target: inShop.Target}, &out, &out)
	if err == nil || !strings.Contains(err.Error(), "the log was cut off") || out.String() != "begun\n" {
		t.Errorf("a log that fails late: %q, %v", out.String(), err)
	}
	if _, err := client.Exec(timeout(t), "pi-2", inShop, apiclient.Terminal{}); apiclient.Code(err) != api.CodeNotFound {
		t.Errorf("a refusal: %v", err)
	}
	for range 3 {
		awaitEnd(t, ended)
	}
}

// A server without tunnels is spoken to without.
func TestServerWithoutTunnels(t *testing.T) {
	c := start(t)
	device(t, c, func(command wire.Command) []wire.Reply {
		return []wire.Reply{{Data: frame(wire.FrameStdout, "line\n"), Done: true}}
	})
	client, _ := behindIngress(t, c, tunnel.Path)
	var out bytes.Buffer
	if err := client.Logs(timeout(t), "pi-1", wire.LogsRequest{Target: inShop.Target}, &out, &out); err != nil || out.String() != "line\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if _, err := client.Exec(timeout(t), "pi-1", inShop, apiclient.Terminal{}); err == nil || !strings.Contains(err.Error(), "HTTP/2") {
		t.Errorf("what takes both directions at once: %v", err)
	}
}

// A tunnel that was begun and given up ends the command in it.
func TestTunnelEnds(t *testing.T) {
	c := start(t)
	begun := make(chan struct{}, 1)
	device(t, c, func(command wire.Command) []wire.Reply {
		if command.Verb == wire.VerbLogs {
			begun <- struct{}{}
		}
		return nil
	})
	client, tunnels := behindIngress(t, c)
	ctx, cancel := context.WithCancel(timeout(t))
	ended := make(chan error, 1)
	go func() {
		ended <- client.Logs(ctx, "pi-1", wire.LogsRequest{Target: inShop.Target, Follow: true}, &bytes.Buffer{}, &bytes.Buffer{})
	}()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("ended well")
	}
	awaitEnd(t, tunnels)
}
