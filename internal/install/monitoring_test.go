package install

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// What the ServiceMonitor points to has to be there: Services that it selects,
// with a port of that name, at pods that answer it with metrics.
func TestServiceMonitorPointsToEveryPart(t *testing.T) {
	o := example()
	objects, err := o.Objects(Cluster{ServiceMonitor: true, PrometheusRule: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var monitor, rules *unstructured.Unstructured
	services, pods := map[string]*corev1.Service{}, map[string]*appsv1.Deployment{}
	for _, object := range objects {
		switch object := object.(type) {
		case *unstructured.Unstructured:
			switch object.GetKind() {
			case "ServiceMonitor":
				monitor = object
			case "PrometheusRule":
				rules = object
			}
		case *corev1.Service:
			services[object.Name] = object
		case *appsv1.Deployment:
			pods[object.Name] = object
		}
	}
	if monitor == nil || rules == nil {
		t.Fatal("no ServiceMonitor, or no PrometheusRule")
	}
	if groups, _, _ := unstructured.NestedSlice(rules.Object, "spec", "groups"); len(groups) == 0 {
		t.Error("the PrometheusRule has no group")
	}
	selects, _, _ := unstructured.NestedStringMap(monitor.Object, "spec", "selector", "matchLabels")
	endpoints, _, _ := unstructured.NestedSlice(monitor.Object, "spec", "endpoints")
	if len(selects) == 0 || len(endpoints) != 1 {
		t.Fatalf("selects %v, endpoints %v", selects, endpoints)
	}
	endpoint := endpoints[0].(map[string]any)
	if endpoint["path"] != "/metrics" {
		t.Errorf("path %v", endpoint["path"])
	}
	scraped := map[string]bool{}
	for _, s := range services {
		if !labels.SelectorFromSet(selects).Matches(labels.Set(s.Labels)) {
			continue
		}
		for _, p := range s.Spec.Ports {
			if p.Name != endpoint["port"] {
				continue
			}
			for name, d := range pods {
				if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
					continue
				}
				container := d.Spec.Template.Spec.Containers[0]
				for _, c := range container.Ports {
					if c.Name == p.TargetPort.String() && strings.Contains(strings.Join(container.Args, " "), "--status-address=:8081") && c.ContainerPort == statusPort {
						if scraped[name] {
							t.Errorf("%s is scraped twice", name)
						}
						scraped[name] = true
					}
				}
			}
		}
	}
	for _, p := range Parts() {
		if !scraped[p.Name] {
			t.Errorf("%s is not scraped", p.Name)
		}
	}
}
