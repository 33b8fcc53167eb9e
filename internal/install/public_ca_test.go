package install

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Where the public certificates are of a private authority, each part that meets
// one is told, and so are devices; where they are not, nobody is.
func TestPublicCA(t *testing.T) {
	o := example()
	made, err := o.natsCertificate()
	if err != nil {
		t.Fatal(err)
	}
	const issuer, nats, device = "--issuer-ca=/etc/fleet/public-ca/ca.crt", "--nats-ca=/etc/fleet/public-ca/ca.crt", "--device-ca=/etc/fleet/public-ca/ca.crt"
	for _, tt := range []struct {
		name   string
		choose func(*Options)
		want   map[string][]string
	}{
		{"public", func(o *Options) { o.CA = "" }, nil},
		{"NATS of others", func(*Options) {}, map[string][]string{operatorName: {nats}, calloutName: {nats, issuer}, dashboardName: {nats, issuer, device}}},
		{"NATS behind the ingress", func(o *Options) { o.NATSURLs, o.WithNATS = nil, true }, map[string][]string{calloutName: {issuer}, dashboardName: {issuer, device}}},
		{"NATS of its own certificate", func(o *Options) { o.NATSURLs, o.WithNATS, o.Expose = nil, true, ExposeLoadBalancer }, map[string][]string{calloutName: {issuer}, dashboardName: {issuer}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := example()
			o.CA = string(made["ca.crt"])
			tt.choose(&o)
			objects, err := o.Objects(Cluster{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			kept := false
			for _, object := range objects {
				switch object := object.(type) {
				case *corev1.ConfigMap:
					kept = kept || object.Name == caMap && object.Data[caKey] == o.CA
				case *appsv1.Deployment:
					spec := object.Spec.Template.Spec
					told := slices.DeleteFunc(slices.Clone(spec.Containers[0].Args), func(arg string) bool { return !strings.HasSuffix(arg, "/public-ca/ca.crt") })
					slices.Sort(told)
					want := slices.Sorted(slices.Values(tt.want[object.Name]))
					mounts := slices.DeleteFunc(slices.Clone(spec.Containers[0].VolumeMounts), func(m corev1.VolumeMount) bool { return m.MountPath != "/etc/fleet/public-ca" })
					if !slices.Equal(told, want) || len(mounts) != min(1, len(want)) {
						t.Errorf("%s is told %q, with %d mounts", object.Name, told, len(mounts))
					}
				}
			}
			if kept != (o.CA != "") {
				t.Errorf("the authority is kept: %t", kept)
			}
		})
	}
	o.CA = "no certificate"
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "--ca") {
		t.Errorf("what is no certificate: %v", err)
	}
}

// Parts read the authorities when they start: where those change, pods are made
// anew, and nothing else of them changes.
func TestPodsFollowThePublicCA(t *testing.T) {
	o := example()
	o.NATSURLs, o.WithNATS = nil, true // the operator has another authority then
	templates := func() map[string]corev1.PodTemplateSpec {
		t.Helper()
		made, err := o.natsCertificate()
		if err != nil {
			t.Fatal(err)
		}
		o.CA = string(made["ca.crt"])
		objects, err := o.Objects(Cluster{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]corev1.PodTemplateSpec{}
		for _, object := range objects {
			if d, ok := object.(*appsv1.Deployment); ok {
				out[d.Name] = d.Spec.Template
			}
		}
		return out
	}
	before, after := templates(), templates()
	for name, follows := range map[string]bool{operatorName: false, calloutName: true, dashboardName: true} {
		was, is := before[name], after[name]
		if changed := !maps.Equal(was.Annotations, is.Annotations); changed != follows {
			t.Errorf("%s: annotations %v, then %v", name, was.Annotations, is.Annotations)
		}
		if !reflect.DeepEqual(was.Spec, is.Spec) {
			t.Errorf("%s: its pods differ in more than that", name)
		}
	}
}
