package dashboard

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/nationtech/fleetctl/operator/api/v1alpha1"
)

// playedUID is that of each played deployment.
func playedUID(name string) types.UID { return types.UID("uid-of-" + name) }

// playedKube holds what a played fleet's pages ask Kubernetes for.
func playedKube(t testing.TB) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var objects []client.Object
	for i, image := range []string{"3.9.1", "3.10.2", "3.10.4"} {
		data := must(json.Marshal(v1alpha1.ScoreData{Services: []v1alpha1.Service{{Name: "camera-relay", Image: "registry.example.com/edge/camera-relay:" + image,
			Ports: []v1alpha1.Port{"8080:80"}, RestartPolicy: "unless-stopped", Env: []v1alpha1.EnvVar{{Name: "SITE", Value: "x"}, {Name: "STREAM_KEY", Value: image[:3]}}}}}))(t)
		objects = append(objects, &v1alpha1.DeploymentRevision{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "camera-relay-" + image, Labels: map[string]string{v1alpha1.LabelDeployment: "camera-relay"},
				CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Duration(3-i) * 52 * time.Hour)),
				OwnerReferences:   []metav1.OwnerReference{{UID: playedUID("camera-relay"), Kind: "Deployment", Name: "camera-relay"}}},
			Spec: v1alpha1.DeploymentRevisionSpec{Revision: int64(i + 1), Generation: int64(i + 1), Score: v1alpha1.RevisionScore{Type: "PodmanV0", Data: runtime.RawExtension{Raw: data}}},
		})
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&corev1.Event{}, "involvedObject.kind", func(o client.Object) []string { return []string{o.(*corev1.Event).InvolvedObject.Kind} }).
		WithIndex(&corev1.Event{}, "involvedObject.name", func(o client.Object) []string { return []string{o.(*corev1.Event).InvolvedObject.Name} }).Build()
}

// playRollout makes a deployment one that is being rolled out, site by site.
func playRollout(d *v1alpha1.Deployment) {
	d.UID = playedUID(d.Name)
	d.Spec.TargetSelector = v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelRequirement{{Key: "tier", Operator: "In", Values: []v1alpha1.LabelValue{"prod"}}}}
	s := &d.Spec.Score.Data.Services[0]
	s.Image, s.Env = "registry.example.com/edge/camera-relay:3.10.4", []v1alpha1.EnvVar{{Name: "SITE", Value: "x"}, {Name: "STREAM_KEY", Value: "3.1"}}
	d.Spec.Rollout = &v1alpha1.Rollout{GroupBy: "site"}
	started := metav1.NewTime(time.Now().Add(-38 * time.Minute))
	r := &v1alpha1.RolloutStatus{Phase: v1alpha1.RolloutProgressing, Message: "batch 3: 2 of 60 devices have yet to be ready for 30s", Revision: 3, RevisionName: "camera-relay-3.10.4",
		StableRevision: 2, StableRevisionName: "camera-relay-3.10.2", StartedAt: &started}
	for i, site := range sites[:10] {
		c := v1alpha1.RolloutCounts{Batch: 3, Devices: int32(360 + 7*i), Updated: int32(max(0, 360-52*i)), Offline: int32(i % 3)}
		c.Ready = max(0, c.Updated-int32(i*3))
		r.Groups = append(r.Groups, v1alpha1.RolloutGroup{Name: site, RolloutCounts: c})
		r.Devices, r.Updated, r.Ready, r.Failed, r.Offline = r.Devices+c.Devices, r.Updated+c.Updated, r.Ready+c.Ready, r.Failed+c.Failed, r.Offline+c.Offline
	}
	r.Batch = 3
	r.WaitingFor = []v1alpha1.RolloutDevice{{DeviceID: "pi-00007", Reason: "NotReady", Message: "ready for 12 s of 30 s"}}
	d.Status.Rollout = r
	d.Status.Aggregate = v1alpha1.Aggregate{MatchedDeviceCount: r.Devices, Succeeded: r.Ready, Failed: r.Failed, Pending: r.Devices - r.Ready - r.Failed}
}
