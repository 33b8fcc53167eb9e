package helmchart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
)

// However the cluster was found, the program that speaks to it finds the same,
// as the same user.
func TestKubeconfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]*rest.Config{
		"certificate": {Host: "https://k8s.example.com:6443", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("ca"), CertData: []byte("cert"), KeyData: []byte("key"), ServerName: "other"}},
		"files":       {Host: "https://k8s.example.com/prefix", TLSClientConfig: rest.TLSClientConfig{CAFile: file, CertFile: file, KeyFile: file}},
		"token":       {Host: "https://k8s.example.com", BearerToken: "token", Impersonate: rest.ImpersonationConfig{UserName: "jane", UID: "1", Groups: []string{"ops"}, Extra: map[string][]string{"a": {"b"}}}},
		"plugin": {Host: "https://k8s.example.com", ExecProvider: &clientcmdapi.ExecConfig{Command: "fleetctl", Args: []string{"token"}, APIVersion: "client.authentication.k8s.io/v1",
			InteractiveMode: clientcmdapi.NeverExecInteractiveMode}},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := kubeconfig(config)
			if err != nil {
				t.Fatal(err)
			}
			got, err := clientcmd.RESTConfigFromKubeConfig(data)
			if err != nil {
				t.Fatal(err)
			}
			type access struct {
				Host, Token, Server, CAFile, CertFile, KeyFile, CA, Cert, Key string
				Impersonate                                                   rest.ImpersonationConfig
				Command                                                       []string
			}
			of := func(c *rest.Config) access {
				a := access{c.Host, c.BearerToken, c.ServerName, c.CAFile, c.CertFile, c.KeyFile, string(c.CAData), string(c.CertData), string(c.KeyData), c.Impersonate, nil}
				if c.ExecProvider != nil {
					a.Command = append([]string{c.ExecProvider.Command}, c.ExecProvider.Args...)
				}
				return a
			}
			if diff := cmp.Diff(of(config), of(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestProgramIsNamedWhenItIsMissing(t *testing.T) {
	_, err := (&Client{}).Render(t.Context(), install.Release{})
	if err == nil || !strings.Contains(err.Error(), Program) || hint.Of(err) == "" {
		t.Errorf("without the program: %v, hint %q", err, hint.Of(err))
	}
}
