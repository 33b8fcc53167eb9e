package cli

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"
)

// playServer plays a fleet-server to a script that has answers of one: the files
// in its directory "answers", by the path of the request and ".json". It is the
// server of the directory "server".
func playServer(env *testscript.Env) error {
	answers := filepath.Join(env.WorkDir, "answers")
	if _, err := os.Stat(answers); err != nil {
		return nil //nolint:nilerr // it asks no server
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := os.ReadFile(filepath.Join(answers, filepath.Clean(r.URL.Path)+".json"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data)
	}))
	env.Defer(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	dir := filepath.Join(env.WorkDir, "server")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	e := Endpoints{APIURL: server.URL, CAFile: filepath.Join(dir, "ca.pem"), AdminTokenFile: filepath.Join(dir, "token"), Kubeconfig: filepath.Join(dir, "kubeconfig")}
	config := clientapi.NewConfig()
	config.Clusters["played"] = &clientapi.Cluster{Server: server.URL, CertificateAuthorityData: ca}
	config.Contexts["played"] = &clientapi.Context{Cluster: "played"}
	config.CurrentContext = "played"
	if err := clientcmd.WriteToFile(*config, e.Kubeconfig); err != nil {
		return err
	}
	endpoints, err := json.Marshal(e)
	if err != nil {
		return err
	}
	for path, data := range map[string][]byte{filepath.Join(dir, "endpoints.json"): endpoints, e.CAFile: ca, e.AdminTokenFile: []byte("t")} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}
