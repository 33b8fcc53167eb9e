package systemtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// TestKubernetesAPI is what the parts above rely on, against one server.
func TestKubernetesAPI(t *testing.T) {
	p := start(t, dataDir(t))
	admin := client(t, p)
	t.Run("release", func(t *testing.T) { testRelease(t, admin) })
	t.Run("anonymous", func(t *testing.T) { testAnonymous(t, p) })
	t.Run("RBAC", func(t *testing.T) { testRBAC(t, p, admin) })
	t.Run("custom resource", func(t *testing.T) { testCustomResource(t, p) })
	t.Run("owner deleted", func(t *testing.T) { testGarbageCollection(t, admin) })
	t.Run("namespace deleted", func(t *testing.T) { testNamespaceDeletion(t, admin) })
	t.Run("other CA's client", func(t *testing.T) { testServingCertificateIsNoIdentity(t, p) })
	p.stopCleanly()
}

// kubectl refuses a server whose version it cannot place.
func testRelease(t *testing.T, admin kubernetes.Interface) {
	v, err := admin.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(v.GitVersion, "v1.") || v.Major != "1" || !strings.HasPrefix(v.GitVersion, "v1."+v.Minor+".") {
		t.Errorf("server says it is %s (major %s, minor %s)", v.GitVersion, v.Major, v.Minor)
	}
}

func testAnonymous(t *testing.T, p *process) {
	ca, err := os.ReadFile(p.ready.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	anonymous := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer anonymous.CloseIdleConnections()
	for path, want := range map[string]int{
		"/livez": http.StatusOK, "/readyz": http.StatusOK, "/healthz": http.StatusOK,
		"/version": http.StatusUnauthorized, "/api": http.StatusUnauthorized, "/apis": http.StatusUnauthorized,
		"/metrics": http.StatusUnauthorized, "/api/v1/secrets": http.StatusUnauthorized, "/debug/pprof/": http.StatusUnauthorized,
	} {
		resp, err := anonymous.Get(p.ready.KubernetesURL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s answers %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// A service account with the role "view" reads and does not delete.
func testRBAC(t *testing.T, p *process, admin kubernetes.Interface) {
	ctx := t.Context()
	if _, err := admin.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "viewer"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "seen"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := admin.CoreV1().ServiceAccounts("default").CreateToken(ctx, "viewer", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(p.admin())
	config.BearerToken = token.Status.Token
	viewer, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := viewer.CoreV1().ConfigMaps("default").Get(ctx, "seen", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("reading without a role: %v, want forbidden", err)
	}
	if _, err := admin.RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "viewer"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: "viewer", Namespace: "default"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the role to count", func(ctx context.Context) (bool, error) {
		_, err := viewer.CoreV1().ConfigMaps("default").Get(ctx, "seen", metav1.GetOptions{})
		return err == nil, nil
	})
	if err := viewer.CoreV1().ConfigMaps("default").Delete(ctx, "seen", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("deleting as a viewer: %v, want forbidden", err)
	}
	if _, err := viewer.CoreV1().Secrets("default").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("secrets as a viewer: %v, want forbidden", err)
	}
}

// A custom resource can be used at once, and its CEL rules are obeyed.
func testCustomResource(t *testing.T, p *process) {
	ctx := t.Context()
	crds, err := apiextensions.NewForConfig(p.admin())
	if err != nil {
		t.Fatal(err)
	}
	crd, err := crds.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, widgets(), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(p.admin())
	if err != nil {
		t.Fatal(err)
	}
	client := dyn.Resource(schema.GroupVersionResource{Group: "test.example.com", Version: "v1", Resource: "widgets"}).Namespace("default")
	widget := func(name string, size int64) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "test.example.com/v1", "kind": "Widget",
			"metadata": map[string]any{"name": name}, "spec": map[string]any{"size": size},
		}}
	}
	eventually(t, "the resource to be served", func(ctx context.Context) (bool, error) {
		_, err := client.Create(ctx, widget("small", 1), metav1.CreateOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if crd, err = crds.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, crd.Name, metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	at := map[apiextensionsv1.CustomResourceDefinitionConditionType]time.Time{}
	for _, c := range crd.Status.Conditions {
		at[c.Type] = c.LastTransitionTime.Time
	}
	// Upstream holds each new resource back for 5 s when it believes in peers.
	if held := at[apiextensionsv1.Established].Sub(at[apiextensionsv1.NamesAccepted]); held < 0 || held > 4*time.Second {
		t.Errorf("it was held back for %s: %+v", held, crd.Status.Conditions)
	}
	if _, err := client.Create(ctx, widget("big", 11), metav1.CreateOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "at most ten") {
		t.Errorf("a widget against the rule: %v", err)
	}
}

func widgets() *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "widgets.test.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "test.example.com", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "widgets", Singular: "widget", Kind: "Widget", ListKind: "WidgetList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object",
					Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": {
						Type:         "object",
						Properties:   map[string]apiextensionsv1.JSONSchemaProps{"size": {Type: "integer"}},
						XValidations: apiextensionsv1.ValidationRules{{Rule: "self.size <= 10", Message: "at most ten"}},
					}},
				}},
			}},
		},
	}
}

func testGarbageCollection(t *testing.T, admin kubernetes.Interface) {
	ctx := t.Context()
	configMaps := admin.CoreV1().ConfigMaps("default")
	owner, err := configMaps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := configMaps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name:            "owned",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}},
	}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := configMaps.Delete(ctx, "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what it owned to go", func(ctx context.Context) (bool, error) {
		_, err := configMaps.Get(ctx, "owned", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
}

func testNamespaceDeletion(t *testing.T, admin kubernetes.Interface) {
	ctx := t.Context()
	if _, err := admin.CoreV1().Namespaces().Create(ctx, namespace("short-lived"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	secrets := admin.CoreV1().Secrets("short-lived")
	if _, err := secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "inside"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := admin.CoreV1().Namespaces().Delete(ctx, "short-lived", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace to go", func(ctx context.Context) (bool, error) {
		_, err := admin.CoreV1().Namespaces().Get(ctx, "short-lived", metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if _, err := secrets.Get(ctx, "inside", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what was inside: %v, want not found", err)
	}
}

// The CA of the listeners is no authority over who somebody is: a serving
// certificate, which it signed, does not sign anybody in.
func testServingCertificateIsNoIdentity(t *testing.T, p *process) {
	config := rest.AnonymousClientConfig(p.admin())
	config.CertFile = strings.TrimSuffix(p.ready.CAFile, "ca.crt") + "kubernetes.crt"
	config.KeyFile = strings.TrimSuffix(p.ready.CAFile, "ca.crt") + "kubernetes.key"
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a serving certificate as client: %v, want unauthorized", err)
	}
}

func eventually(t *testing.T, what string, check func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 60*time.Second, true, check); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}
