package systemtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/nationtech/fleetctl/internal/pki"
)

// kubeAPIServer builds the real kube-apiserver, once a run.
var kubeAPIServer = sync.OnceValues(func() (string, error) { return goBuild("./kubeapiserver", "kube-apiserver") })

// startAPIServer starts a real kube-apiserver and gives an administrator's
// access to it.
func startAPIServer(t *testing.T) *rest.Config {
	t.Helper()
	program, err := kubeAPIServer()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "kas") // a short path: etcd's socket is in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ca, err := pki.Open(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.ServerCert("kube-apiserver", []string{"127.0.0.1", kubernetesIP})
	if err != nil {
		t.Fatal(err)
	}
	adminCert, adminKey := administrator(t)
	clientCA := filepath.Join(dir, "admin.pem")
	if err := os.WriteFile(clientCA, adminCert, 0o600); err != nil {
		t.Fatal(err)
	}
	signer := filepath.Join(dir, "service-account.key")
	if err := os.WriteFile(signer, adminKey, 0o600); err != nil {
		t.Fatal(err)
	}
	address := freePort(t)
	_, port, _ := splitAddress(address)
	server := newChild(t, "kube-apiserver", program, dir,
		"--bind-address=127.0.0.1", "--secure-port="+port, "--tls-cert-file="+cert.CertFile, "--tls-private-key-file="+cert.KeyFile,
		"--client-ca-file="+clientCA, "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+signer,
		"--service-account-signing-key-file="+signer, "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none", "--v=0")
	server.start()
	server.reap()
	config := &rest.Config{Host: "https://" + address, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: ca.PEM(), CertData: adminCert, KeyData: adminKey}}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(startDeadline)
	for {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context())
		if err == nil {
			return config
		}
		select {
		case <-server.exited:
			t.Fatalf("kube-apiserver ended: %s", server.cmd.ProcessState)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("kube-apiserver is not ready within %s: %v", startDeadline, err)
		}
	}
}

// administrator makes a self-signed client certificate of system:masters.
func administrator(t *testing.T) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte {
		var b bytes.Buffer
		if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	return encode("CERTIFICATE", der), encode("EC PRIVATE KEY", keyDER)
}

func controllerClient(t *testing.T, config *rest.Config) ctrl.Client {
	t.Helper()
	if err := apiextensionsv1.AddToScheme(scheme.Scheme); err != nil {
		t.Fatal(err)
	}
	log.SetLogger(logr.Discard())
	c, err := ctrl.New(config, ctrl.Options{Scheme: scheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// admits creates, by a dry run, a pod as a Deployment's controller would.
func admits(ctx context.Context, c ctrl.Client, namespace, name string, template *corev1.PodTemplateSpec) error {
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = namespace, name
	return c.Create(ctx, pod, ctrl.DryRunAll)
}
