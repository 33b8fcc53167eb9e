package systemtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/testhost/netns"
)

// ingressController does what an Ingress object says, as ingress-nginx does: it
// ends TLS with the object's certificate, sends on by host and path, and obeys
// the annotations that have a meaning here. What nobody asked for it refuses, and
// where an annotation is missing its defaults are ingress-nginx's.
type ingressController struct {
	objects   ctrl.Reader
	namespace string
	network   string        // path of the namespace that it listens and dials in
	second    time.Duration // how long one of an annotation's seconds takes here
}

const (
	nginx = "nginx.ingress.kubernetes.io/"
	// What ingress-nginx does without annotations.
	ingressIdle = 60      // seconds
	ingressBody = 1 << 20 // bytes
)

// startIngress serves at an address in a network namespace until the test ends.
func startIngress(t *testing.T, config *rest.Config, i ingressController, address string) {
	t.Helper()
	objects, err := cache.New(config, cache.Options{DefaultNamespaces: map[string]cache.Config{i.namespace: {}}})
	if err != nil {
		t.Fatal(err)
	}
	i.objects = objects
	ctx, stop := context.WithCancel(context.Background())
	watching := make(chan error, 1)
	go func() { watching <- objects.Start(ctx) }()
	for _, kind := range []ctrl.Object{&networkingv1.Ingress{}, &corev1.Secret{}, &corev1.Service{}} {
		if _, err := objects.GetInformer(t.Context(), kind); err != nil {
			t.Fatal(err)
		}
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: i.certificate}
	quiet := log.New(io.Discard, "", 0) // clients that trust no certificate are a part of the test
	servers := map[string]*http.Server{
		"443": {Handler: http.HandlerFunc(i.serve), TLSConfig: tlsConfig, ReadHeaderTimeout: time.Minute, ErrorLog: quiet},
		"80":  {Handler: http.HandlerFunc(i.redirect), ReadHeaderTimeout: time.Minute, ErrorLog: quiet},
	}
	t.Cleanup(func() {
		for _, s := range servers {
			_ = s.Close()
		}
		stop()
		if err := <-watching; err != nil {
			t.Errorf("ingress: %v", err)
		}
	})
	for port, server := range servers {
		listener, err := netns.Listen(i.network, net.JoinHostPort(address, port))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if server.TLSConfig != nil {
				_ = server.ServeTLS(listener, "", "") // ends with the test
				return
			}
			_ = server.Serve(listener)
		}()
	}
}

func (i *ingressController) ingresses(ctx context.Context) []networkingv1.Ingress {
	list := &networkingv1.IngressList{}
	if err := i.objects.List(ctx, list, ctrl.InNamespace(i.namespace)); err != nil {
		return nil // the name is then served by nobody
	}
	return list.Items
}

// certificate is that of the Ingress that names the host.
func (i *ingressController) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	for _, in := range i.ingresses(hello.Context()) {
		for _, t := range in.Spec.TLS {
			if !slices.Contains(t.Hosts, hello.ServerName) {
				continue
			}
			secret := &corev1.Secret{}
			if err := i.objects.Get(hello.Context(), ctrl.ObjectKey{Namespace: i.namespace, Name: t.SecretName}, secret); err != nil {
				return nil, err
			}
			pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
			return &pair, err
		}
	}
	return nil, fmt.Errorf("no Ingress has a certificate for %q", hello.ServerName)
}

// match finds the Ingress and the path of it that a request is for: of those of
// its host the longest (Kubernetes' rules of matching).
func (i *ingressController) match(r *http.Request) (found *networkingv1.Ingress, backend *networkingv1.IngressServiceBackend) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	longest := -1
	for _, in := range i.ingresses(r.Context()) {
		for _, rule := range in.Spec.Rules {
			if rule.Host != host || rule.HTTP == nil {
				continue
			}
			for _, p := range rule.HTTP.Paths {
				if covers(p, r.URL.Path) && len(p.Path) > longest {
					found, backend, longest = &in, p.Backend.Service, len(p.Path)
				}
			}
		}
	}
	return found, backend
}

func covers(p networkingv1.HTTPIngressPath, path string) bool {
	if *p.PathType == networkingv1.PathTypeExact {
		return path == p.Path
	}
	prefix := strings.TrimSuffix(p.Path, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func (i *ingressController) redirect(w http.ResponseWriter, r *http.Request) {
	in, _ := i.match(r)
	if in == nil || in.Annotations[nginx+"force-ssl-redirect"] != "true" {
		http.NotFound(w, r)
		return
	}
	http.Redirect(w, r, "https://"+r.Host+r.URL.RequestURI(), http.StatusPermanentRedirect)
}

func (i *ingressController) serve(w http.ResponseWriter, r *http.Request) {
	in, backend := i.match(r)
	if in == nil {
		http.NotFound(w, r)
		return
	}
	service := &corev1.Service{}
	if err := i.objects.Get(r.Context(), ctrl.ObjectKey{Namespace: i.namespace, Name: backend.Name}, service); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	port := slices.IndexFunc(service.Spec.Ports, func(p corev1.ServicePort) bool {
		return p.Port == backend.Port.Number || backend.Port.Name != "" && p.Name == backend.Port.Name
	})
	if port < 0 {
		http.Error(w, fmt.Sprintf("Service %s has no port %+v", backend.Name, backend.Port), http.StatusServiceUnavailable)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, ingressBody)
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[port].Port)))
	proxy := &httputil.ReverseProxy{
		Transport: i.transport(in),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: address})
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			var large *http.MaxBytesError
			code := http.StatusBadGateway
			switch {
			case errors.As(err, &large):
				code = http.StatusRequestEntityTooLarge
			case errors.Is(err, errIdle):
				code = http.StatusGatewayTimeout
			}
			http.Error(w, err.Error(), code)
		},
	}
	if in.Annotations[nginx+"proxy-buffering"] == "off" {
		proxy.FlushInterval = -1
	}
	proxy.ServeHTTP(w, r)
}

// transport keeps no connection: each is as old as its request.
func (i *ingressController) transport(in *networkingv1.Ingress) *http.Transport {
	idle := func(annotation string) time.Duration {
		seconds, err := strconv.Atoi(in.Annotations[nginx+annotation])
		if err != nil {
			seconds = ingressIdle
		}
		return time.Duration(seconds) * i.second
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(in.Annotations[nginx+"backend-protocol"] != "GRPC")
	protocols.SetUnencryptedHTTP2(in.Annotations[nginx+"backend-protocol"] == "GRPC")
	return &http.Transport{DisableKeepAlives: true, Protocols: protocols, DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		conn, err := dialIn(ctx, i.network, address)
		if err != nil {
			return nil, err
		}
		return &idleConn{Conn: conn, read: idle("proxy-read-timeout"), write: idle("proxy-send-timeout")}, nil
	}}
}

var errIdle = errors.New("nothing came from behind the ingress for too long")

// idleConn ends when it is silent for too long.
type idleConn struct {
	net.Conn
	read, write time.Duration
}

func (c *idleConn) Read(p []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(c.read)) // an open connection takes it
	n, err := c.Conn.Read(p)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = fmt.Errorf("%w (%s)", errIdle, c.read)
	}
	return n, err
}

func (c *idleConn) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(c.write))
	return c.Conn.Write(p)
}

// dialIn connects from within a network namespace to an address, which is no name.
func dialIn(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = netns.Do(network, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}
