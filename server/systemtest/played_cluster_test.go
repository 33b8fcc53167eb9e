package systemtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/pki"
)

// playedCluster is what makes a cluster of a real API server, for one namespace:
// the controllers that make pods of Deployments and StatefulSets, a kubelet that
// runs them as processes, Services and DNS that find them, and a cert-manager. It
// goes by the objects alone.
type playedCluster struct {
	t         *testing.T
	ctx       context.Context // of what is asked of the API
	client    ctrl.Client
	set       kubernetes.Interface
	config    *rest.Config
	namespace string
	network   *playedNetwork
	images    map[string]playedImage // by what an image's name holds
	public    map[string]bool        // names that lead to the ingress
	authority *pki.CA                // of the cert-manager
	dir       string

	mu   sync.Mutex
	pods map[string]*playedPod
}

// start plays until the test ends.
func (c *playedCluster) start() {
	c.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c.ctx, c.pods, c.dir = ctx, map[string]*playedPod{}, c.t.TempDir()
	if err := os.Chmod(c.dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	c.network.lookUp = c.lookUp
	c.network.serveDNS()
	c.network.address(kubernetesIP)
	api := strings.TrimPrefix(c.config.Host, "https://")
	for _, address := range []string{net.JoinHostPort(kubernetesIP, "443"), api} { // of pods, and of the kubeconfig
		c.network.forward(address, func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", api) })
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		problem := ""
		for sleep(ctx, 100*time.Millisecond) {
			if err := c.turn(); err != nil && ctx.Err() == nil && err.Error() != problem {
				problem = err.Error()
				c.t.Logf("cluster: %s", problem) // tried again
			}
		}
	}()
	c.t.Cleanup(func() {
		stop()
		<-done
		for _, p := range c.pods {
			if c.t.Failed() {
				c.t.Logf("log of %s (%d restarts):\n%s", p.object.Name, p.restarts.Load(), tail(p.log.String(), 6000))
			}
			p.kill()
		}
	})
}

// turn looks at everything once, and brings it one step further.
func (c *playedCluster) turn() error {
	if err := c.client.Get(c.ctx, ctrl.ObjectKey{Name: c.namespace}, &corev1.Namespace{}); err != nil {
		return ctrl.IgnoreNotFound(err)
	}
	var errs []error
	for _, o := range []ctrl.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "default"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": string(c.config.CAData)}},
	} {
		if err := c.client.Create(c.ctx, o); !apierrors.IsAlreadyExists(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, c.certify(), c.control(), c.kubelet(), c.proxies())...)
}

// workload is a Deployment or a StatefulSet.
type workload struct {
	object   ctrl.Object
	template corev1.PodTemplateSpec
	names    []string // of its pods
	claims   []corev1.PersistentVolumeClaim
	status   func(ready int32)
}

func (c *playedCluster) workloads() ([]workload, error) {
	deployments, sets := &appsv1.DeploymentList{}, &appsv1.StatefulSetList{}
	if err := errors.Join(c.client.List(c.ctx, deployments, ctrl.InNamespace(c.namespace)), c.client.List(c.ctx, sets, ctrl.InNamespace(c.namespace))); err != nil {
		return nil, err
	}
	var all []workload
	for n := range deployments.Items {
		d := &deployments.Items[n]
		w := workload{object: d, template: d.Spec.Template, status: func(ready int32) {
			want := *d.Spec.Replicas
			d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: want, UpdatedReplicas: want, ReadyReplicas: ready, AvailableReplicas: ready}
		}}
		for i := range *d.Spec.Replicas {
			w.names = append(w.names, fmt.Sprintf("%s-%s-%d", d.Name, hashOf(d.Spec.Template), i))
		}
		all = append(all, w)
	}
	for n := range sets.Items {
		s := &sets.Items[n]
		w := workload{object: s, template: s.Spec.Template, claims: s.Spec.VolumeClaimTemplates, status: func(ready int32) {
			want := *s.Spec.Replicas
			s.Status = appsv1.StatefulSetStatus{ObservedGeneration: s.Generation, Replicas: want, UpdatedReplicas: want, ReadyReplicas: ready, AvailableReplicas: ready}
		}}
		for i := range *s.Spec.Replicas {
			w.names = append(w.names, s.Name+"-"+strconv.Itoa(int(i)))
		}
		all = append(all, w)
	}
	return all, nil
}

// hashOf tells templates apart.
func hashOf(template corev1.PodTemplateSpec) string {
	data, _ := json.Marshal(template) // what came from JSON
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:4])
}

const templateLabel = "pod-template-hash"

// control makes the pods of each workload, as the API server lets it, removes
// those that are of another template or too many, and says how many are ready.
func (c *playedCluster) control() error {
	all, err := c.workloads()
	if err != nil {
		return err
	}
	pods := &corev1.PodList{}
	if err := c.client.List(c.ctx, pods, ctrl.InNamespace(c.namespace)); err != nil {
		return err
	}
	there := map[string]string{} // the template of each pod
	for _, p := range pods.Items {
		there[p.Name] = p.Labels[templateLabel]
	}
	var errs []error
	wanted := map[string]bool{}
	for _, w := range all {
		hash, ready := hashOf(w.template), int32(0)
		for _, name := range w.names {
			wanted[name] = there[name] == "" || there[name] == hash
			if there[name] == "" {
				errs = append(errs, c.makePod(w, name, hash))
			} else if p := c.pod(name); p != nil && wanted[name] && p.ready.Load() {
				ready++
			}
		}
		before, _ := json.Marshal(w.object)
		w.status(ready)
		if after, _ := json.Marshal(w.object); string(before) != string(after) {
			errs = append(errs, c.client.Status().Update(c.ctx, w.object))
		}
	}
	for n := range pods.Items {
		if !wanted[pods.Items[n].Name] {
			errs = append(errs, ctrl.IgnoreNotFound(c.client.Delete(c.ctx, &pods.Items[n])))
		}
	}
	return errors.Join(errs...)
}

func (c *playedCluster) makePod(w workload, name, hash string) error {
	pod := &corev1.Pod{ObjectMeta: *w.template.ObjectMeta.DeepCopy(), Spec: *w.template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = c.namespace, name
	pod.Labels[templateLabel] = hash
	for _, claim := range w.claims {
		made := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: claim.Name + "-" + name, Labels: pod.Labels}, Spec: claim.Spec}
		if err := c.client.Create(c.ctx, made); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		pod.Spec.Hostname = name
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: made.Name}}})
	}
	if err := c.client.Create(c.ctx, pod); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make pod %s: %w", name, err)
	}
	return nil
}

func (c *playedCluster) pod(name string) *playedPod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods[name]
}

// of gives the pods that run of a part.
func (c *playedCluster) of(part string) []*playedPod {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*playedPod
	for _, p := range c.pods {
		if p.object.Labels["app.kubernetes.io/name"] == part {
			all = append(all, p)
		}
	}
	return all
}

// kubelet runs the pods that there are, and no others.
func (c *playedCluster) kubelet() error {
	list := &corev1.PodList{}
	if err := c.client.List(c.ctx, list, ctrl.InNamespace(c.namespace)); err != nil {
		return err
	}
	var errs []error
	there := map[string]bool{}
	for n := range list.Items {
		object := &list.Items[n]
		there[object.Name] = true
		p := c.pod(object.Name)
		if p != nil && p.object.UID != object.UID {
			p.kill()
			p = nil
		}
		if p == nil {
			image, err := c.imageOf(object)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			p = &playedPod{cluster: c, object: object, image: image}
			if err := p.start(); err != nil {
				errs = append(errs, fmt.Errorf("start pod %s: %w", object.Name, err))
				continue
			}
			c.mu.Lock()
			c.pods[object.Name] = p
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, p := range c.pods {
		if !there[name] {
			p.kill()
			delete(c.pods, name)
		}
	}
	return errors.Join(errs...)
}

func (c *playedCluster) imageOf(pod *corev1.Pod) (playedImage, error) {
	for name, image := range c.images {
		if strings.HasPrefix(pod.Spec.Containers[0].Image, name+":") {
			return image, nil
		}
	}
	return playedImage{}, fmt.Errorf("nobody has image %s", pod.Spec.Containers[0].Image)
}

// proxies leads the address of each Service to a ready pod of it.
func (c *playedCluster) proxies() error {
	list := &corev1.ServiceList{}
	if err := c.client.List(c.ctx, list, ctrl.InNamespace(c.namespace)); err != nil {
		return err
	}
	for _, s := range list.Items {
		if s.Spec.ClusterIP == corev1.ClusterIPNone {
			continue
		}
		for _, port := range s.Spec.Ports {
			at := net.JoinHostPort(s.Spec.ClusterIP, strconv.Itoa(int(port.Port)))
			if c.network.leads(at) {
				continue
			}
			if port == s.Spec.Ports[0] {
				c.network.address(s.Spec.ClusterIP)
			}
			c.network.forward(at, func(ctx context.Context) (net.Conn, error) {
				for _, p := range c.behind(&s) {
					if number := p.port(port.TargetPort); number != 0 {
						return dialIn(ctx, c.network.path(), net.JoinHostPort(p.address, strconv.Itoa(number)))
					}
				}
				return nil, fmt.Errorf("no pod behind Service %s", s.Name)
			})
		}
	}
	return nil
}

// behind gives the pods of a Service that are ready, or all where it wants those.
func (c *playedCluster) behind(s *corev1.Service) []*playedPod {
	c.mu.Lock()
	defer c.mu.Unlock()
	selector := labels.SelectorFromSet(s.Spec.Selector)
	var all []*playedPod
	for _, p := range c.pods {
		if selector.Matches(labels.Set(p.object.Labels)) && (p.ready.Load() || s.Spec.PublishNotReadyAddresses) {
			all = append(all, p)
		}
	}
	return all
}

// lookUp is the DNS of the cluster, and of the world: public names lead to the
// ingress.
func (c *playedCluster) lookUp(name string) ([]netip.Addr, bool) {
	if c.public[name] {
		return []netip.Addr{netip.MustParseAddr(ingressIP)}, true
	}
	local, ok := strings.CutSuffix(name, "."+c.namespace+".svc.cluster.local")
	if !ok {
		return nil, false
	}
	host, service, ofPod := strings.Cut(local, ".")
	if !ofPod {
		service = host
	}
	s := &corev1.Service{}
	if err := c.client.Get(c.ctx, ctrl.ObjectKey{Namespace: c.namespace, Name: service}, s); err != nil {
		return nil, false
	}
	if s.Spec.ClusterIP != corev1.ClusterIPNone && !ofPod {
		return []netip.Addr{netip.MustParseAddr(s.Spec.ClusterIP)}, true
	}
	var all []netip.Addr
	for _, p := range c.behind(s) {
		if !ofPod || p.object.Spec.Hostname == host {
			all = append(all, netip.MustParseAddr(p.address))
		}
	}
	return all, len(all) > 0
}

// certify plays cert-manager: an Ingress that asks for a certificate gets it.
func (c *playedCluster) certify() error {
	list := &networkingv1.IngressList{}
	if err := c.client.List(c.ctx, list, ctrl.InNamespace(c.namespace)); err != nil {
		return err
	}
	var errs []error
	for _, in := range list.Items {
		if in.Annotations["cert-manager.io/cluster-issuer"] == "" {
			continue
		}
		for _, t := range in.Spec.TLS {
			key := ctrl.ObjectKey{Namespace: c.namespace, Name: t.SecretName}
			if err := c.client.Get(c.ctx, key, &corev1.Secret{}); !apierrors.IsNotFound(err) {
				continue
			}
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Type: corev1.SecretTypeTLS}
			secret.Data = certificateFor(c.t, c.authority, t.SecretName, t.Hosts)
			errs = append(errs, c.client.Create(c.ctx, secret))
		}
	}
	return errors.Join(errs...)
}

// certificateFor is one for hosts, as a TLS Secret holds it.
func certificateFor(t *testing.T, authority *pki.CA, name string, hosts []string) map[string][]byte {
	cert, err := authority.ServerCert(name, slices.Clone(hosts))
	if err != nil {
		t.Errorf("certificate for %v: %v", hosts, err)
		return nil
	}
	data := map[string][]byte{}
	for key, path := range map[string]string{"tls.crt": cert.CertFile, "tls.key": cert.KeyFile} {
		if data[key], err = os.ReadFile(path); err != nil {
			t.Errorf("certificate for %v: %v", hosts, err)
		}
	}
	return data
}
