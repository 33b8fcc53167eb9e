package kubeapi

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"time"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nationtech/fleetctl/internal/secretfile"
)

// adminLifetime is long because the kubeconfig is copied to where nothing can
// renew it. Deleting admin.pem and restarting revokes it.
const adminLifetime = 10 * 365 * 24 * time.Hour

// credentials are the identities that the API server makes for itself.
type credentials struct {
	adminFile string // certificate of the administrator
	adminCert []byte
	adminKey  []byte
	signerKey string // file: signs service account tokens
}

// openCredentials loads what earlier starts made, and makes what is missing.
//
// The administrator's certificate is its own authority, and the only client
// certificate that the API server trusts: the CA that signs serving certificates
// can not be used to sign in.
func openCredentials(dir string) (*credentials, error) {
	c := &credentials{
		adminFile: filepath.Join(dir, "admin.pem"),
		signerKey: filepath.Join(dir, "service-account.key"),
	}
	pair, err := secretfile.LoadOrCreate(c.adminFile, newAdmin)
	if err != nil {
		return nil, fmt.Errorf("admin certificate: %w", err)
	}
	if c.adminCert, c.adminKey, err = splitPair(pair); err != nil {
		return nil, fmt.Errorf("admin certificate %s: %w", c.adminFile, err)
	}
	if _, err := secretfile.LoadOrCreate(c.signerKey, newKey); err != nil {
		return nil, fmt.Errorf("service account key: %w", err)
	}
	return c, nil
}

func (c *credentials) restConfig(url string, caPEM []byte) *rest.Config {
	return &rest.Config{
		Host: url,
		TLSClientConfig: rest.TLSClientConfig{
			CAData:   caPEM,
			CertData: c.adminCert,
			KeyData:  c.adminKey,
		},
		// The server has its own fairness queues; a client-side limit would only
		// slow the operator down.
		QPS: -1,
	}
}

// writeKubeconfig writes access as a kubeconfig that works wherever it is copied.
func writeKubeconfig(path string, access *rest.Config) error {
	const name = "fleet"
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters[name] = &clientcmdapi.Cluster{Server: access.Host, CertificateAuthorityData: access.CAData}
	cfg.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: access.CertData, ClientKeyData: access.KeyData}
	cfg.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	cfg.CurrentContext = name
	data, err := clientcmd.Write(*cfg)
	if err != nil {
		return fmt.Errorf("encode kubeconfig: %w", err)
	}
	if err := secretfile.Write(path, data); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// newAdmin makes a certificate and key of a cluster administrator, PEM in one file.
func newAdmin() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "fleet-admin", Organization: []string{user.SystemPrivilegedGroup}},
		NotBefore:             now.Add(-time.Hour), // clocks of clients differ
		NotAfter:              now.Add(adminLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := pem.Encode(&out, &pem.Block{Type: certType, Bytes: der}); err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	out.Write(keyPEM)
	return out.Bytes(), nil
}

const (
	certType = "CERTIFICATE"
	keyType  = "EC PRIVATE KEY"
)

func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return encodeKey(key)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), nil
}

func splitPair(data []byte) (cert, key []byte, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case certType:
			cert = pem.EncodeToMemory(block)
		case keyType:
			key = pem.EncodeToMemory(block)
		}
	}
	if cert == nil || key == nil {
		return nil, nil, errors.New("needs a certificate and a key in PEM")
	}
	return cert, key, nil
}
