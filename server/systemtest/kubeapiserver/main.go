// Command kubeapiserver is Kubernetes' own kube-apiserver, for tests: of the
// same module as the embedded API, with every built-in kind and admission
// plugin. Its etcd is in the same process. There is no kubelet and no
// controller behind it.
package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// main takes the directory of etcd, whose path has to be short, and then
// kube-apiserver's own flags.
func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir string, flags []string) error {
	endpoint := url.URL{Scheme: "unix", Path: filepath.Join(dir, "etcd.sock")}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.LogLevel = "test", filepath.Join(dir, "data"), "error"
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{endpoint}, []url.URL{endpoint}
	cfg.ListenPeerUrls = nil
	peer := url.URL{Scheme: "http", Host: "localhost:2380"} // a name only: nobody listens there
	cfg.AdvertisePeerUrls = []url.URL{peer}
	cfg.InitialCluster = cfg.Name + "=" + peer.String()
	cfg.TickMs, cfg.ElectionMs = 20, 200
	cfg.EnableGRPCGateway = false
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer etcd.Close()
	<-etcd.Server.ReadyNotify()
	cmd := app.NewAPIServerCommand()
	cmd.SetArgs(append([]string{"--etcd-servers=" + endpoint.String()}, flags...))
	return cmd.Execute()
}
