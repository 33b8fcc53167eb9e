package serverapi_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/pki"
	"github.com/nationtech/fleetctl/internal/serverapi/api"
	"github.com/nationtech/fleetctl/internal/serverapi/apiclient"
)

func tlsConfig(ca *pki.CA) *tls.Config { return &tls.Config{RootCAs: ca.Pool()} }

// Each way in which a server is not there has its exit code and hint.
func TestClientErrors(t *testing.T) {
	c := start(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	gone := "https://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	page := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>It works!</html>"))
	}))
	defer page.Close()
	moved := httptest.NewTLSServer(http.RedirectHandler(c.url, http.StatusFound))
	defer moved.Close()
	pageCA := certPEM(page)
	other := must(pki.Open(filepath.Join(t.TempDir(), "pki")))(t)

	for name, tt := range map[string]struct {
		url   string
		ca    []byte
		token string
		code  int
	}{
		"nothing listens": {gone, c.ca.PEM(), c.token, hint.CodeUnreachable},
		"no such name":    {"https://fleet.invalid", c.ca.PEM(), c.token, hint.CodeUnreachable},
		"another CA":      {c.url, other.PEM(), c.token, hint.CodeAuth},
		"wrong token":     {c.url, c.ca.PEM(), "0000", hint.CodeAuth},
		"no token":        {c.url, c.ca.PEM(), "", hint.CodeAuth},
		"a web page":      {page.URL, pageCA, c.token, hint.CodeUnreachable},
		"a redirect":      {moved.URL, certPEM(moved), c.token, hint.CodeUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			client := must(apiclient.New(tt.url, tt.ca, tt.token))(t)
			_, err := client.Enrol(timeout(t), "pi-1", api.EnrolmentRequest{MachineID: machineA})
			if err == nil || hint.Code(err) != tt.code || hint.Of(err) == "" {
				t.Errorf("got %v (exit code %d, hint %q), want exit code %d and a hint", err, hint.Code(err), hint.Of(err), tt.code)
			}
		})
	}
	for _, url := range []string{"", "localhost:1", "http://localhost:1", "https://"} {
		if _, err := apiclient.New(url, nil, ""); hint.Code(err) != hint.CodeUsage {
			t.Errorf("URL %q: %v", url, err)
		}
	}
	if _, err := c.Ping(timeout(t), "a.b"); hint.Code(err) != hint.CodeUsage {
		t.Errorf("bad id: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Version(cancelled); !errors.Is(err, context.Canceled) || hint.Code(err) != hint.CodeFailed {
		t.Errorf("cancelled: %v", err)
	}
}

func certPEM(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
