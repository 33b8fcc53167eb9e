package systemtest

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/install"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

func splitAddress(address string) (host, port string, err error) { return net.SplitHostPort(address) }

// TestInstallation takes an installation through its life on a real
// kube-apiserver, which checks every object, with the restricted profile of Pod
// Security on. There is no kubelet: that pods are ready is played by writing
// the status that a controller would.
func TestInstallation(t *testing.T) {
	client := controllerClient(t, startAPIServer(t))
	i := &install.Installer{Client: client}
	o := install.Defaults("v1.2.3")
	o.Domain, o.Issuer, o.ProjectID, o.ClientID, o.DashboardID = "fleet.example.com", "https://sso.example.com", "1234", "cli", "dashboard"
	o.NATSURLs, o.Passwords, o.ClusterIssuer, o.SecretsFrom = []string{"tls://nats.example.com:4222"}, true, "letsencrypt", []string{"default"}

	first := applied(t, i, o)
	if len(first.Changes) < 30 || len(first.NewSecrets) == 0 {
		t.Errorf("a first installation makes %d objects and %d Secrets", len(first.Changes), len(first.NewSecrets))
	}
	order(t, first)
	for _, name := range []string{"fleet-operator", "fleet-callout", "fleet-dashboard"} {
		d := deployment(t, client, o.Namespace, name)
		if err := admits(t.Context(), client, o.Namespace, name+"-pod", &d.Spec.Template); err != nil {
			t.Errorf("a pod of %s: %v", name, err)
		}
		if id := d.Spec.Template.Spec.SecurityContext.RunAsUser; id != nil {
			t.Errorf("%s has the fixed user id %d", name, *id)
		}
	}
	root := deployment(t, client, o.Namespace, "fleet-callout").Spec.Template
	root.Spec.Containers[0].SecurityContext.Capabilities = nil
	if err := admits(t.Context(), client, o.Namespace, "bad", &root); !apierrors.IsForbidden(err) {
		t.Errorf("a pod beyond the restricted profile: %v, want a refusal: else this test proves nothing", err)
	}

	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: "default"}} // a controller's work
	if err := client.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	documented := &appsv1.Deployment{}
	if err := yaml.UnmarshalStrict(manifestOf(t, filepath.Join("..", "..", "docs", "install.md")), documented); err != nil {
		t.Errorf("the agent's Deployment in docs/install.md: %v", err)
	}
	if err := admits(t.Context(), client, o.Namespace, "agent", &documented.Spec.Template); err != nil {
		t.Errorf("a pod of the agent's Deployment in docs/install.md: %v", err)
	}

	secrets := secretData(t, client, o.Namespace)
	if second := planned(t, i, o); len(second.Changes) > 0 || len(second.NewSecrets) > 0 {
		t.Errorf("a second installation changes %v", names(second))
	}

	t.Run("drift", func(t *testing.T) {
		d := deployment(t, client, o.Namespace, "fleet-callout")
		base := ctrl.MergeFrom(d.DeepCopy())
		d.Spec.Replicas = new(int32)
		if err := client.Patch(t.Context(), d, base); err != nil {
			t.Fatal(err)
		}
		plan := planned(t, i, o)
		if len(plan.Changes) != 1 || plan.Changes[0].Action != install.Update || !strings.Contains(plan.Changes[0].Diff, "-   replicas: 0\n+   replicas: 2") {
			t.Fatalf("the plan is %+v", plan.Changes)
		}
		if err := i.Apply(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("waiting says why", func(t *testing.T) {
		err := i.AwaitReady(t.Context(), &o, time.Second)
		if err == nil || !strings.Contains(err.Error(), "fleet-operator has 0/2 pods: no pod yet") {
			t.Errorf("waiting for pods that nobody makes: %v", err)
		}
		for _, name := range []string{"fleet-operator", "fleet-callout", "fleet-dashboard"} {
			play(t, client, o.Namespace, name)
		}
		if err := i.AwaitReady(t.Context(), &o, 10*time.Second); err != nil {
			t.Errorf("waiting for pods that are ready: %v", err)
		}
	})

	t.Run("upgrade", func(t *testing.T) {
		kept, err := i.Installed(t.Context(), o.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		kept.Version, kept.Expose, kept.ClusterIssuer, kept.SecretsFrom = "v1.3.0", install.ExposeLoadBalancer, "", nil
		plan := applied(t, i, kept)
		if !slices.Contains(names(plan), "delete Ingress fleet-system/fleet") {
			t.Errorf("the ingress is not removed: %v", names(plan))
		}
		if !slices.Contains(names(plan), "delete RoleBinding default/fleet-system-fleet-operator") {
			t.Errorf("the operator may still read what it was allowed to: %v", names(plan))
		}
		if len(plan.NewSecrets) > 0 {
			t.Errorf("an upgrade makes Secrets %v", plan.NewSecrets)
		}
		if image := deployment(t, client, o.Namespace, "fleet-operator").Spec.Template.Spec.Containers[0].Image; !strings.HasSuffix(image, ":v1.3.0") {
			t.Errorf("the image is %s", image)
		}
		if after := secretData(t, client, o.Namespace); after != secrets {
			t.Error("an upgrade changed Secrets")
		}
		o = kept
	})

	t.Run("uninstall", func(t *testing.T) {
		plan, err := i.Removal(t.Context(), o, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Apply(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		if after := secretData(t, client, o.Namespace); after != secrets {
			t.Error("Secrets are not what they were")
		}
		mustExist(t, client, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: "fleet-audit"}})
		mustExist(t, client, &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "devices." + v1alpha1.GroupVersion.Group}})
		left := &appsv1.DeploymentList{}
		if err := client.List(t.Context(), left, ctrl.InNamespace(o.Namespace)); err != nil || len(left.Items) > 0 {
			t.Errorf("%d Deployments are left, %v", len(left.Items), err)
		}
		// Installed again it goes on with the same keys.
		if again := applied(t, i, o); len(again.NewSecrets) > 0 {
			t.Errorf("installed again it makes Secrets %v", again.NewSecrets)
		}
		purge, err := i.Removal(t.Context(), o, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"delete Secret fleet-system/fleet-signing", "delete PersistentVolumeClaim fleet-system/fleet-audit",
			"delete CustomResourceDefinition devices." + v1alpha1.GroupVersion.Group, "delete Namespace fleet-system"} {
			if !slices.Contains(names(purge), want) {
				t.Errorf("a purge does not %s", want)
			}
		}
	})

	t.Run("a lost key is not replaced", func(t *testing.T) {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: "fleet-signing"}}
		if err := client.Get(t.Context(), ctrl.ObjectKeyFromObject(s), s); err != nil {
			t.Fatal(err)
		}
		delete(s.Data, "signing.key")
		if err := client.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Plan(t.Context(), o); err == nil || !strings.Contains(err.Error(), "signing.key") {
			t.Errorf("an installation without its signing key: %v", err)
		}
	})

	t.Run("purge", func(t *testing.T) {
		// Nobody is left who would act on its finalizer.
		device := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "pi-1",
			"finalizers": []any{v1alpha1.FinalizerOffboard}}}}
		device.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Device"))
		if err := client.Create(t.Context(), device); err != nil {
			t.Fatal(err)
		}
		plan, err := i.Removal(t.Context(), o, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Apply(t.Context(), plan); err != nil {
			t.Fatal(err)
		}
		// The namespace and the volume wait for controllers that are not here.
		plan.Changes = slices.DeleteFunc(plan.Changes, func(c install.Change) bool {
			return !strings.HasPrefix(c.Object, "CustomResourceDefinition ")
		})
		if err := i.AwaitGone(t.Context(), plan, 30*time.Second); err != nil || len(plan.Changes) == 0 {
			t.Errorf("%d CRDs: %v", len(plan.Changes), err)
		}
	})
}

// TestEveryShapeIsAccepted dry-runs each way to be exposed, and NATS that is
// somebody else's.
func TestEveryShapeIsAccepted(t *testing.T) {
	client := controllerClient(t, startAPIServer(t))
	for _, expose := range install.Exposures() {
		t.Run(expose, func(t *testing.T) {
			i := &install.Installer{Client: client}
			o := install.Defaults("v1.2.3")
			o.Namespace = "fleet-" + expose
			o.Domain, o.Issuer, o.ProjectID = "fleet.example.com", "https://sso.example.com", "1234"
			o.NATSURLs, o.Expose, o.Gateway = []string{"tls://nats.example.com:4222"}, install.Expose(expose), "infra/public"
			plan := planned(t, i, o)
			if expose == "route" || expose == "gateway" {
				// Their kinds are others', and not here: all else is applied.
				plan.Changes = slices.DeleteFunc(plan.Changes, func(c install.Change) bool {
					return strings.HasPrefix(c.Object, "Route ") || strings.HasPrefix(c.Object, "HTTPRoute ")
				})
			}
			if err := i.Apply(t.Context(), plan); err != nil {
				t.Error(err)
			}
		})
	}
}

// manifestOf gives the YAML in a page.
func manifestOf(t *testing.T, page string) []byte {
	t.Helper()
	_, after, found := strings.Cut(read(t, page), "```yaml\n")
	text, _, closed := strings.Cut(after, "```")
	if !found || !closed {
		t.Fatalf("%s holds no YAML", page)
	}
	return []byte(text)
}

func planned(t *testing.T, i *install.Installer, o install.Options) *install.Plan {
	t.Helper()
	plan, err := i.Plan(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func applied(t *testing.T, i *install.Installer, o install.Options) *install.Plan {
	t.Helper()
	plan := planned(t, i, o)
	if err := i.Apply(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	return plan
}

func names(p *install.Plan) []string {
	var all []string
	for _, c := range p.Changes {
		all = append(all, string(c.Action)+" "+c.Object)
	}
	return all
}

// order wants every Secret before the first pod that needs it.
func order(t *testing.T, p *install.Plan) {
	t.Helper()
	pods := slices.IndexFunc(p.Changes, func(c install.Change) bool { return strings.HasPrefix(c.Object, "Deployment ") })
	for n, c := range p.Changes {
		if strings.HasPrefix(c.Object, "Secret ") && n > pods {
			t.Errorf("%s is made after the first pods", c.Object)
		}
	}
}

func deployment(t *testing.T, c ctrl.Client, namespace, name string) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	if err := c.Get(t.Context(), ctrl.ObjectKey{Namespace: namespace, Name: name}, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// play writes the status of a Deployment whose pods are ready.
func play(t *testing.T, c ctrl.Client, namespace, name string) {
	t.Helper()
	d := deployment(t, c, namespace, name)
	n := *d.Spec.Replicas
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: n, UpdatedReplicas: n, ReadyReplicas: n, AvailableReplicas: n}
	if err := c.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// secretData is the content of every Secret, as text that can be compared.
func secretData(t *testing.T, c ctrl.Client, namespace string) string {
	t.Helper()
	list := &corev1.SecretList{}
	if err := c.List(t.Context(), list, ctrl.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range list.Items {
		for key, value := range s.Data {
			all = append(all, s.Name+"/"+key+"="+string(value))
		}
	}
	if len(all) == 0 {
		t.Fatal("there are no Secrets")
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func mustExist(t *testing.T, c ctrl.Client, o ctrl.Object) {
	t.Helper()
	if err := c.Get(t.Context(), ctrl.ObjectKeyFromObject(o), o); err != nil {
		t.Errorf("%s is not kept: %v", o.GetName(), err)
	}
}
