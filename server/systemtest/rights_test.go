package systemtest

import (
	"bufio"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nationtech/fleetctl/internal/install"
	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// makeIdentities gives each part the service account and the rights that an
// installation gives it, and nothing else.
func (c *cluster) makeIdentities() {
	c.t.Helper()
	o := install.Defaults("test")
	o.Domain, o.Issuer, o.ProjectID, o.NATSURLs = "fleet.example.com", "https://sso.example.com", "1", []string{"tls://nats.example.com"}
	objects, err := o.Objects(install.Cluster{}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	client := controllerClient(c.t, c.restConfig())
	for _, object := range objects {
		switch kind := object.GetObjectKind().GroupVersionKind().Kind; {
		case kind == "Namespace", kind == "ServiceAccount", strings.HasPrefix(kind, "Role"), strings.HasPrefix(kind, "ClusterRole"):
			if err := client.Create(c.t.Context(), object); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	access := c.restConfig()
	set, err := kubernetes.NewForConfig(access)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range install.Parts() {
		token, err := set.CoreV1().ServiceAccounts(o.Namespace).CreateToken(c.t.Context(), p.Name,
			&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		config := clientcmdapi.NewConfig()
		config.Clusters["c"] = &clientcmdapi.Cluster{Server: access.Host, CertificateAuthorityData: access.CAData}
		config.AuthInfos["c"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
		config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
		config.CurrentContext = "c"
		data, err := clientcmd.Write(*config)
		if err != nil {
			c.t.Fatal(err)
		}
		c.write(data, "identities", p.Name)
	}
}

// right is one verb on one kind of objects.
type right struct{ group, resource, verb string }

// checkRights reads in the API server's audit log what each part has done: it
// may not have been refused anything that it needs, and every verb that an
// installation grants has to be among what it did.
func (c *cluster) checkRights(t *testing.T) {
	t.Helper()
	used, refused := c.requests(t)
	for _, p := range install.Parts() {
		user := "system:serviceaccount:" + leaseSpace + ":" + p.Name
		for r := range refused[user] {
			if r == (right{"", "namespaces", "create"}) {
				continue // of the Lease; it does without, where the namespace is there
			}
			t.Errorf("%s may not %s %s.%s", p.Name, r.verb, r.resource, r.group)
		}
		for _, rule := range slices.Concat(p.Cluster, p.Namespaced) {
			for r := range rights(rule) {
				switch {
				case used[user][r], r.verb == v1alpha1.VerbEnroll: // asked for by a policy; enrolment fails without
				case r == (right{"events.k8s.io", "events", "patch"}): // an event that repeats, which is chance here
				case r.verb == "list" && used[user][right{r.group, r.resource, "watch"}]:
					// A watch of a new API server brings the list along; an older one is asked for it.
				default:
					t.Errorf("%s may %s %s.%s, and never did", p.Name, r.verb, r.resource, r.group)
				}
			}
		}
		if t.Failed() {
			t.Logf("%s used %v", p.Name, slices.Collect(maps.Keys(used[user])))
		}
	}
}

func rights(rule rbacv1.PolicyRule) map[right]bool {
	all := map[right]bool{}
	for _, group := range rule.APIGroups {
		for _, resource := range rule.Resources {
			for _, verb := range rule.Verbs {
				all[right{group, resource, verb}] = true
			}
		}
	}
	return all
}

// requests reads the audit log: what each user did, and what it was refused.
func (c *cluster) requests(t *testing.T) (used, refused map[string]map[right]bool) {
	t.Helper()
	file, err := os.Open(c.path("audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	used, refused = map[string]map[right]bool{}, map[string]map[right]bool{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e auditv1.Event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.ObjectRef == nil {
			continue // the last line may be under way
		}
		r := right{e.ObjectRef.APIGroup, e.ObjectRef.Resource, e.Verb}
		if e.ObjectRef.Subresource != "" {
			r.resource += "/" + e.ObjectRef.Subresource
		}
		into := used
		if e.ResponseStatus != nil && e.ResponseStatus.Code == 403 {
			into = refused
		}
		if into[e.User.Username] == nil {
			into[e.User.Username] = map[right]bool{}
		}
		into[e.User.Username][r] = true
	}
	if len(used) == 0 {
		t.Fatal("the audit log is empty")
	}
	return used, refused
}
