package systemtest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/issuer/issuertest"
)

// TestInstallCommandZitadel installs with a Zitadel beside it. The embedded
// issuer, which speaks the same API, stands in for the one that the chart would
// run: a proxy leads to it by the name that the installation gives Zitadel.
func TestInstallCommandZitadel(t *testing.T) {
	config := startAPIServer(t)
	client := controllerClient(t, config)
	shell := newOperatorsShell(t, config)
	issuer := issuertest.StartWith(t, issuertest.Options{Name: "id.fleet.invalid"})
	shell.proxy = leadTo(t, "id.fleet.invalid:443", issuer.Address())
	const namespace = "fleet-system"
	charts, err := filepath.Abs(filepath.Join("testdata", "charts"))
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dsn, ca := file("dsn", "postgres://owner:s3cret@db.example.com/identity\n"), file("ca.pem", string(issuer.CA.PEM()))
	install := func(more ...string) []string {
		return append([]string{"install", "--domain", "fleet.invalid", "--with-zitadel", "--nats-url", "tls://nats.invalid:4222", "--cluster-issuer", "letsencrypt",
			"--chart-dir", charts, "--ca", ca, "--timeout", "20s"}, more...)
	}

	shell.want(t, 1, []string{"Zitadel needs a PostgreSQL", "--postgres-dsn-file"}, install()...)
	shell.want(t, 3, []string{"create Release fleet-system/zitadel", "the rest is planned once Zitadel is set up"}, install("--plan", "--postgres-dsn-file", dsn)...)

	// Its pods come up, and its first start has left no token: no part is made yet.
	playing(t, client, namespace, func() {
		r := shell.want(t, 1, []string{"Zitadel's first start left no token"}, install("--postgres-dsn-file", dsn)...)
		if strings.Contains(r.stderr, "s3cret") || strings.Contains(r.stderr, "created Deployment") {
			t.Errorf("it said\n%s", r.stderr)
		}
	})
	token := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fleet-setup-pat"}, Data: map[string][]byte{"pat": []byte(issuer.Token("setup", "fleet-admin"))}}
	if err := client.Create(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	var first ran
	playing(t, client, namespace, func() {
		first = shell.want(t, 1, []string{"made app fleet-dashboard", "created Deployment fleet-system/fleet-callout", "ok    OIDC discovery", "login name          admin@fleet.invalid",
			"everything is installed, and does not work through its public URLs yet"}, install()...)
	})
	args := strings.Join(deployment(t, client, namespace, "fleet-callout").Spec.Template.Spec.Containers[0].Args, " ")
	if !strings.Contains(args, "--issuer=https://id.fleet.invalid") || !strings.Contains(args, "--project-id="+issuer.ProjectID) {
		t.Errorf("the callout is told %s\n%s", args, first.stderr)
	}
	ingresses := &networkingv1.IngressList{}
	if err := client.List(t.Context(), ingresses, ctrl.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	certificates := map[string]int{}
	for _, in := range ingresses.Items {
		if in.Spec.Rules[0].Host == "id.fleet.invalid" && in.Spec.TLS[0].SecretName == "fleet-issuer-tls" {
			certificates[in.Annotations["cert-manager.io/cluster-issuer"]]++
		}
	}
	if len(certificates) != 2 || certificates["letsencrypt"] != 1 {
		t.Errorf("the two ingresses of Zitadel ask for their certificate %v", certificates)
	}

	// The ids and the database are remembered; another database is a change.
	if r := shell.want(t, 0, nil, install("--plan")...); r.stdout+r.stderr != "" {
		t.Errorf("a second installation would change\n%s", r.stderr)
	}
	shell.want(t, 3, []string{"update Secret fleet-system/fleet-zitadel", "update Release fleet-system/zitadel", "db-2.example.com"},
		install("--plan", "--postgres-dsn-file", file("dsn", "postgres://owner:s3cret@db-2.example.com/identity"))...)

	t.Run("OpenShift and CloudNativePG", func(t *testing.T) { testZitadelOnOpenShift(t, client, shell, install) })

	shell.want(t, 0, []string{"delete Release fleet-system/zitadel"}, "uninstall", "--yes", "--timeout", "30s")
	mustExist(t, client, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fleet-zitadel"}})
}

// testZitadelOnOpenShift plays OpenShift, which gives a namespace its user ids, and
// CloudNativePG, which makes a database.
func testZitadelOnOpenShift(t *testing.T, client ctrl.Client, shell operatorsShell, install func(...string) []string) {
	const namespace = "fleet-os"
	define(t, client, schema.GroupVersionKind{Group: "security.openshift.io", Version: "v1", Kind: "SecurityContextConstraints"}, "securitycontextconstraints", apiextensionsv1.ClusterScoped)
	postgres := schema.GroupVersionKind{Group: "postgresql.cnpg.io", Version: "v1", Kind: "Cluster"}
	define(t, client, postgres, "clusters", apiextensionsv1.NamespaceScoped)
	shell.want(t, 3, []string{"create Namespace fleet-os", "once the namespace gets its user ids"}, install("-n", namespace, "--plan")...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for ctx.Err() == nil {
			ns := &unstructured.Unstructured{}
			ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
			ns.SetName(namespace)
			_ = client.Patch(ctx, ns, ctrl.RawPatch("application/merge-patch+json",
				[]byte(`{"metadata":{"annotations":{"openshift.io/sa.scc.uid-range":"1000650000/10000","openshift.io/sa.scc.supplemental-groups":"1000660000/10000"}}}`)))
			db := &unstructured.Unstructured{}
			db.SetGroupVersionKind(postgres)
			db.SetNamespace(namespace)
			db.SetName("fleet-zitadel-db")
			_ = client.Status().Patch(ctx, db, ctrl.RawPatch("application/merge-patch+json", []byte(`{"status":{"readyInstances":1}}`)))
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	playing(t, client, namespace, func() {
		shell.want(t, 1, []string{"created Cluster fleet-os/fleet-zitadel-db", "Zitadel's first start left no token"}, install("-n", namespace)...)
	})
	for _, name := range []string{"zitadel", "zitadel-login"} {
		pod := deployment(t, client, namespace, name).Spec.Template.Spec
		if *pod.SecurityContext.FSGroup != 1000660000 || *pod.SecurityContext.RunAsUser != 1000650000 || *pod.Containers[0].SecurityContext.RunAsUser != 1000650000 {
			t.Errorf("%s runs as %+v", name, pod.SecurityContext)
		}
	}
}

// define makes a kind that others define, without a schema.
func define(t *testing.T, client ctrl.Client, kind schema.GroupVersionKind, plural string, scope apiextensionsv1.ResourceScope) {
	t.Helper()
	open := true
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: plural + "." + kind.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: kind.Group, Scope: scope,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Kind: kind.Kind},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: kind.Version, Served: true, Storage: true,
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}},
				Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: &open}}}}}}
	if err := client.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	eventually(t, kind.Kind+" to be there", func(ctx context.Context) (bool, error) {
		if err := client.Get(ctx, ctrl.ObjectKeyFromObject(crd), crd); err != nil {
			return false, err
		}
		for _, c := range crd.Status.Conditions {
			if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
				return true, nil
			}
		}
		return false, nil
	})
}

// leadTo is a proxy that connects one name to an address, and nothing else.
func leadTo(t *testing.T, name, address string) string {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != name {
			http.Error(w, "leads to "+name+" alone", http.StatusForbidden)
			return
		}
		far, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer far.Close()
		w.WriteHeader(http.StatusOK)
		near, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer near.Close()
		go func() {
			_, _ = io.Copy(far, buffered)
			_ = far.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(near, far)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}
