package systemtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrl "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nationtech/fleetctl/internal/testhost/netns"
)

// playedImage is what a container is made of.
type playedImage struct {
	root       string // its files
	entrypoint []string
	env        []string
	user       int
	// play is done in this process in the place of a program.
	play func(ctx context.Context, p *playedPod) error
}

// playedPod is a pod that runs: a process with the files, the environment, the
// user and the network that the Pod object gives it, and nothing else.
type playedPod struct {
	cluster *playedCluster
	object  *corev1.Pod
	image   playedImage

	network, address, root string
	log                    buffer
	ready, held            atomic.Bool
	process                atomic.Pointer[os.Process]
	restarts               atomic.Int32
	stop                   context.CancelFunc
	done                   sync.WaitGroup
}

// start runs the pod until stop; it fails while what it mounts is not there.
func (p *playedPod) start() error {
	if len(p.object.Spec.Containers) != 1 || len(p.object.Spec.InitContainers) > 0 {
		return errors.New("a played pod has one container")
	}
	if err := p.mountAll(); err != nil {
		return err
	}
	p.network, p.address = p.cluster.network.pod()
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.done.Go(func() {
		for ctx.Err() == nil {
			if err := p.run(ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintf(&p.log, "ended: %v\n", err)
				p.restarts.Add(1)
				sleep(ctx, 500*time.Millisecond) // as a kubelet backs off
			}
		}
	})
	p.done.Go(func() {
		for sleep(ctx, 100*time.Millisecond) {
			if !p.held.Load() {
				p.ready.Store(p.probe(ctx) == nil)
			}
		}
	})
	return nil
}

func (p *playedPod) kill() {
	p.stop()
	p.done.Wait()
}

// hold stops its process in the middle of whatever it does, and keeps what was
// last known of it.
func (p *playedPod) hold(held bool) error {
	p.held.Store(held)
	signal := map[bool]os.Signal{true: syscall.SIGSTOP, false: syscall.SIGCONT}[held]
	return p.process.Load().Signal(signal)
}

func (p *playedPod) container() *corev1.Container { return &p.object.Spec.Containers[0] }

// inside is a path of the container, as it is outside.
func (p *playedPod) inside(path string) string { return filepath.Join(p.root, path) }

func (p *playedPod) run(ctx context.Context) error {
	if p.image.play != nil {
		return p.image.play(ctx, p)
	}
	env, err := p.environment()
	if err != nil {
		return err
	}
	user, group, err := p.identity()
	if err != nil {
		return err
	}
	argv := p.image.entrypoint
	if len(p.container().Command) > 0 {
		argv = p.container().Command
	}
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], p.container().Args...)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, "/", &p.log, &p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: p.root, Setpgid: true, Credential: &syscall.Credential{Uid: user, Gid: group, Groups: p.groups()}}
	if err := netns.Do(p.network, cmd.Start); err != nil {
		return err
	}
	p.process.Store(cmd.Process)
	return cmd.Wait()
}

// identity is the user that the process runs as. An image's own has the group of
// the same number.
func (p *playedPod) identity() (user, group uint32, err error) {
	user = uint32(p.image.user)
	group = user
	s := p.object.Spec.SecurityContext
	if s.RunAsUser != nil {
		user, group = uint32(*s.RunAsUser), 0
	}
	if s.RunAsGroup != nil {
		group = uint32(*s.RunAsGroup)
	}
	if s.RunAsNonRoot != nil && *s.RunAsNonRoot && user == 0 {
		err = errors.New("container has runAsNonRoot and image will run as root")
	}
	return user, group, err
}

func (p *playedPod) groups() []uint32 {
	if g := p.object.Spec.SecurityContext.FSGroup; g != nil {
		return []uint32{uint32(*g)}
	}
	return nil
}

func (p *playedPod) environment() ([]string, error) {
	env := append([]string{"KUBERNETES_SERVICE_HOST=" + kubernetesIP, "KUBERNETES_SERVICE_PORT=443", "HOSTNAME=" + p.object.Name}, p.image.env...)
	for _, e := range p.container().Env {
		switch from := e.ValueFrom; {
		case from == nil:
			env = append(env, e.Name+"="+e.Value)
		case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
			env = append(env, e.Name+"="+p.object.Name)
		case from.SecretKeyRef != nil:
			files, err := p.secret(from.SecretKeyRef.Name)
			if err != nil {
				return nil, err
			}
			env = append(env, e.Name+"="+string(files[from.SecretKeyRef.Key]))
		default:
			return nil, fmt.Errorf("environment variable %s comes from where nobody plays", e.Name)
		}
	}
	return env, nil
}

// mountAll makes the container's root: the image's files, and each volume at its
// place.
func (p *playedPod) mountAll() error {
	var err error
	if p.root, err = os.MkdirTemp(p.cluster.dir, p.object.Name+"-"); err != nil {
		return err
	}
	if p.image.play == nil {
		if err := linkTree(p.image.root, p.root); err != nil {
			return err
		}
	}
	if s := p.container().SecurityContext; s == nil || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		return errors.New("its root is not read-only")
	}
	volumes := map[string]corev1.Volume{}
	for _, v := range p.object.Spec.Volumes {
		volumes[v.Name] = v
	}
	for _, m := range p.container().VolumeMounts {
		if err := p.mount(volumes[m.Name], m.MountPath); err != nil {
			return fmt.Errorf("volume %s: %w", m.Name, err)
		}
	}
	resolver := fmt.Sprintf("nameserver %s\nsearch %s.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n", dnsIP, p.object.Namespace)
	return errors.Join(p.file("/etc/resolv.conf", []byte(resolver), 0o644), p.file("/etc/hosts", []byte("127.0.0.1 localhost\n"), 0o644))
}

func (p *playedPod) mount(v corev1.Volume, at string) error {
	switch {
	case v.Secret != nil:
		data, err := p.secret(v.Secret.SecretName)
		if err != nil {
			return err
		}
		return p.files(at, pick(data, v.Secret.Items), v.Secret.DefaultMode)
	case v.ConfigMap != nil:
		data, err := p.configMap(v.ConfigMap.Name)
		if err != nil {
			return err
		}
		return p.files(at, pick(data, v.ConfigMap.Items), v.ConfigMap.DefaultMode)
	case v.Projected != nil:
		all := map[string][]byte{}
		for _, source := range v.Projected.Sources {
			data, err := p.projected(source)
			if err != nil {
				return err
			}
			maps.Copy(all, data)
		}
		return p.files(at, all, v.Projected.DefaultMode)
	case v.PersistentVolumeClaim != nil:
		return p.claim(v.PersistentVolumeClaim.ClaimName, at)
	}
	return errors.New("nobody plays this kind")
}

func (p *playedPod) projected(source corev1.VolumeProjection) (map[string][]byte, error) {
	switch {
	case source.ServiceAccountToken != nil:
		token, err := p.cluster.set.CoreV1().ServiceAccounts(p.object.Namespace).CreateToken(p.cluster.ctx, p.object.Spec.ServiceAccountName,
			&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: source.ServiceAccountToken.ExpirationSeconds}}, metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		return map[string][]byte{source.ServiceAccountToken.Path: []byte(token.Status.Token)}, nil
	case source.ConfigMap != nil:
		data, err := p.configMap(source.ConfigMap.Name)
		return pick(data, source.ConfigMap.Items), err
	case source.DownwardAPI != nil:
		return map[string][]byte{"namespace": []byte(p.object.Namespace)}, nil // what every pod has
	}
	return nil, errors.New("nobody plays this source")
}

func (p *playedPod) secret(name string) (map[string][]byte, error) {
	s := &corev1.Secret{}
	err := p.cluster.client.Get(p.cluster.ctx, ctrl.ObjectKey{Namespace: p.object.Namespace, Name: name}, s)
	return s.Data, err
}

func (p *playedPod) configMap(name string) (map[string][]byte, error) {
	m := &corev1.ConfigMap{}
	err := p.cluster.client.Get(p.cluster.ctx, ctrl.ObjectKey{Namespace: p.object.Namespace, Name: name}, m)
	data := map[string][]byte{}
	for key, value := range m.Data {
		data[key] = []byte(value)
	}
	return data, err
}

// pick is what items choose of data; none choose all.
func pick(data map[string][]byte, items []corev1.KeyToPath) map[string][]byte {
	if len(items) == 0 {
		return data
	}
	some := map[string][]byte{}
	for _, item := range items {
		some[item.Path] = data[item.Key]
	}
	return some
}

// files writes a volume's, which belong to root and to the pod's group.
func (p *playedPod) files(at string, data map[string][]byte, mode *int32) error {
	for name, content := range data {
		if err := p.file(filepath.Join(at, name), content, fs.FileMode(*mode)); err != nil {
			return err
		}
	}
	return nil
}

func (p *playedPod) file(path string, content []byte, mode fs.FileMode) error {
	path = p.inside(path)
	group := 0
	if groups := p.groups(); len(groups) > 0 {
		group, mode = int(groups[0]), mode|0o440
	}
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o600), os.Chown(path, 0, group), os.Chmod(path, mode))
}

// claim is a directory of the node that outlives the pod. It belongs to root, and
// to the pod's group when it has one.
func (p *playedPod) claim(name, at string) error {
	claim := &corev1.PersistentVolumeClaim{}
	if err := p.cluster.client.Get(p.cluster.ctx, ctrl.ObjectKey{Namespace: p.object.Namespace, Name: name}, claim); err != nil {
		return err
	}
	volume := filepath.Join(p.cluster.dir, "volumes", name)
	if err := os.MkdirAll(volume, 0o755); err != nil {
		return err
	}
	if groups := p.groups(); len(groups) > 0 {
		if err := errors.Join(os.Chown(volume, 0, int(groups[0])), os.Chmod(volume, 0o2775|fs.ModeSetgid)); err != nil {
			return err
		}
	}
	target := p.inside(at)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(volume, target, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", volume, err)
	}
	p.cluster.t.Cleanup(func() { _ = syscall.Unmount(target, syscall.MNT_DETACH) })
	return nil
}

// probe is nil when the pod is ready.
func (p *playedPod) probe(ctx context.Context) error {
	probe := p.container().ReadinessProbe
	if probe == nil {
		return nil
	}
	url := fmt.Sprintf("http://%s%s", net.JoinHostPort(p.address, strconv.Itoa(p.port(probe.HTTPGet.Port))), probe.HTTPGet.Path)
	client := http.Client{Timeout: time.Duration(probe.TimeoutSeconds) * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return dialIn(ctx, p.cluster.network.path(), address)
		}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// port is the number of a port that may be a name; 0 when the container has none
// of that name.
func (p *playedPod) port(of intstr.IntOrString) int {
	if of.Type == intstr.Int {
		return of.IntValue()
	}
	for _, c := range p.container().Ports {
		if c.Name == of.StrVal {
			return int(c.ContainerPort)
		}
	}
	return 0
}

// linkTree copies a tree, sharing the files. What anybody may write in it is
// read-only: so is the root of every container of ours.
func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return errors.Join(os.MkdirAll(target, 0o755), os.Chmod(target, 0o755))
		}
		return os.Link(path, target)
	})
}
