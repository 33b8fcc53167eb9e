package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/semver"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/nationtech/fleetctl/internal/hint"
)

// Chart is somebody else's Helm chart, in the version that this package's
// values are written for.
type Chart struct {
	Name       string
	Version    string
	Repository string // where it is published, an https URL
	// VersionFlag is how a user takes another version.
	VersionFlag string
}

// Release is a chart with our values.
type Release struct {
	Name      string
	Namespace string
	Chart     Chart
	Values    map[string]any
}

// Deployed is a release as the cluster has it.
type Deployed struct {
	ChartVersion string
	Values       map[string]any
	Ours         bool   // we made it
	Status       string // Helm's; StatusDeployed when its last change was finished
	// Objects are what it is made of, with Helm's own labels and annotations.
	Objects []*unstructured.Unstructured
}

// StatusDeployed is the status of a release that is as it should be.
const StatusDeployed = "deployed"

// Charts are releases of Helm charts in a cluster (internal/install/helmchart).
type Charts interface {
	// Check says whether the chart can be had, in that version.
	Check(ctx context.Context, chart Chart) error
	// Deployed gives nil where there is no release of that name.
	Deployed(ctx context.Context, namespace, name string) (*Deployed, error)
	// Apply makes a release, or changes one that is there, with these values and
	// no others.
	Apply(ctx context.Context, r Release) error
	Remove(ctx context.Context, namespace, name string) error
}

// ErrChartVersion says that a chart is there in a version that was not expected.
var ErrChartVersion = errors.New("unexpected version of a chart")

// Releases are the charts of others that an installation is made of.
func (o *Options) Releases(c Cluster, secrets Secrets) ([]Release, error) {
	var all []Release
	if o.WithNATS {
		values, err := o.natsValues(c, secrets)
		if err != nil {
			return nil, err
		}
		r, err := o.release(natsName, o.natsChart(), values)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if o.WithZitadel {
		values, err := o.zitadelValues(c, secrets)
		if err != nil {
			return nil, err
		}
		r, err := o.release(zitadelName, o.zitadelChart(), values)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

func (o *Options) release(name string, chart Chart, values any) (Release, error) {
	data, err := json.Marshal(values)
	if err != nil {
		return Release{}, fmt.Errorf("encode values of chart %s: %w", chart.Name, err)
	}
	r := Release{Name: name, Namespace: o.Namespace, Chart: chart}
	if err := json.Unmarshal(data, &r.Values); err != nil {
		return Release{}, fmt.Errorf("encode values of chart %s: %w", chart.Name, err)
	}
	return r, nil
}

// releaseNames are those of all releases that there can be.
func releaseNames() []string { return []string{natsName, zitadelName} }

// planReleases compares the releases that o asks for with those in the cluster.
// They are made before the parts, which need them; those that are asked for no
// longer are removed after everything else.
func (i *Installer) planReleases(ctx context.Context, o *Options, c Cluster, secrets Secrets) (changes, stale []Change, err error) {
	wanted, err := o.Releases(c, secrets)
	if err != nil {
		return nil, nil, err
	}
	if i.Charts == nil && len(wanted) > 0 {
		return nil, nil, errors.New("no Helm to install charts with")
	}
	names := map[string]bool{}
	for n := range wanted {
		names[wanted[n].Name] = true
		change, err := i.compareRelease(ctx, &wanted[n])
		if err != nil {
			return nil, nil, err
		}
		if change != nil {
			changes = append(changes, *change)
		}
	}
	stale, err = i.removeReleases(ctx, o.Namespace, names)
	return changes, stale, err
}

// removeReleases plans the removal of our releases, but for the kept ones.
func (i *Installer) removeReleases(ctx context.Context, namespace string, keep map[string]bool) ([]Change, error) {
	if i.Charts == nil {
		return nil, nil
	}
	var changes []Change
	for _, name := range releaseNames() {
		if keep[name] {
			continue
		}
		have, err := i.Charts.Deployed(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		if have != nil && have.Ours {
			changes = append(changes, Change{Action: Delete, Object: "Release " + namespace + "/" + name, release: &Release{Name: name, Namespace: namespace}})
		}
	}
	return changes, nil
}

// compareRelease gives nil for a release that is as it should be: chart, values,
// and each of its objects.
func (i *Installer) compareRelease(ctx context.Context, want *Release) (*Change, error) {
	have, err := i.Charts.Deployed(ctx, want.Namespace, want.Name)
	if err != nil {
		return nil, err
	}
	change := &Change{Action: Update, Object: "Release " + want.Namespace + "/" + want.Name, release: want}
	if have == nil {
		change.Action = Create
		return change, i.Charts.Check(ctx, want.Chart)
	}
	if semver.Compare("v"+have.ChartVersion, "v"+want.Chart.Version) > 0 {
		return nil, hint.Wrap(fmt.Errorf("release %s is of chart %s %s, newer than the %s that is expected: %w",
			want.Name, want.Chart.Name, have.ChartVersion, want.Chart.Version, ErrChartVersion),
			fmt.Sprintf("use a newer fleetctl, or keep that version with --%s %s", want.Chart.VersionFlag, have.ChartVersion))
	}
	before, err := releaseText(want.Chart.Name, have.ChartVersion, have.Values)
	if err != nil {
		return nil, err
	}
	after, err := releaseText(want.Chart.Name, want.Chart.Version, want.Values)
	if err != nil {
		return nil, err
	}
	change.Diff = differenceOfLines(before, after)
	if have.Status != StatusDeployed {
		change.Diff = "- status: " + have.Status + "\n+ status: " + StatusDeployed + "\n" + change.Diff
	}
	if change.Diff == "" {
		if change.Diff, err = i.releaseDrift(ctx, want.Namespace, have.Objects); err != nil || change.Diff == "" {
			return nil, err
		}
	}
	if have.ChartVersion != want.Chart.Version {
		err = i.Charts.Check(ctx, want.Chart)
	}
	return change, err
}

// releaseDrift is what somebody else changed of a release's objects.
func (i *Installer) releaseDrift(ctx context.Context, namespace string, objects []*unstructured.Unstructured) (string, error) {
	var all strings.Builder
	for _, object := range objects {
		if namespaced, err := i.Client.IsObjectNamespaced(object); err != nil {
			return "", fmt.Errorf("look at %s: %w", nameOf(object), err)
		} else if namespaced && object.GetNamespace() == "" {
			object.SetNamespace(namespace)
		}
		change, err := i.compare(ctx, object)
		if err != nil {
			return "", err
		}
		if change != nil {
			fmt.Fprintf(&all, "%s %s\n%s", change.Action, change.Object, change.Diff)
		}
	}
	return all.String(), nil
}

func releaseText(chart, version string, values map[string]any) (string, error) {
	text, err := yaml.Marshal(map[string]any{"chart": chart + " " + version, "values": values})
	if err != nil {
		return "", fmt.Errorf("encode values of chart %s: %w", chart, err)
	}
	return string(text), nil
}
