// Package charts makes, changes and removes releases of Helm charts through the
// Helm SDK, in the cluster's own records: what it did, `helm list` shows. It owns
// where a chart comes from and which version of it is taken; which charts and
// which values those are is fleetctl's affair (internal/install).
package charts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/release/common"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
)

// maxHistory revisions of a release are kept: each is a Secret with the whole
// chart in it.
const maxHistory = 5

// A release of ours has this label; Helm keeps it with the release's record.
const (
	ownerLabel = "fleet.nationtech.io/managed-by"
	owner      = "fleetctl"
)

// client is the access to a cluster and to charts.
type client struct {
	config  *rest.Config
	dir     string        // of charts; empty: they are fetched
	timeout time.Duration // of a chart's hooks
}

// configuration is what every action of the SDK works with.
func (c *client) configuration(namespace string) (*action.Configuration, error) {
	// What a release sets is ours as much as what we apply ourselves: so drift of
	// both is found in the same way. The SDK has it as a global only.
	kube.ManagedFieldsManager = install.FieldManager
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.Default().Handler()))
	if err := cfg.Init(newAccess(c.config, namespace), namespace, "secret"); err != nil {
		return nil, fmt.Errorf("prepare Helm: %w", err)
	}
	return cfg, nil
}

// last is the newest revision of a release; nil when there is none.
func last(cfg *action.Configuration, name string) (*releasev1.Release, error) {
	history, err := cfg.Releases.History(name)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", name, err)
	}
	var newest *releasev1.Release
	for _, entry := range history {
		r, err := v1(entry)
		if err != nil {
			return nil, err
		}
		if newest == nil || r.Version > newest.Version {
			newest = r
		}
	}
	return newest, nil
}

func v1(r release.Releaser) (*releasev1.Release, error) {
	switch r := r.(type) {
	case *releasev1.Release:
		return r, nil
	case releasev1.Release:
		return &r, nil
	}
	return nil, fmt.Errorf("the release was made by another version of Helm: %T", r)
}

// deployed gives nil where there is no release of that name.
func (c *client) deployed(namespace, name string) (*install.Deployed, error) {
	cfg, err := c.configuration(namespace)
	if err != nil {
		return nil, err
	}
	r, err := last(cfg, name)
	if err != nil || r == nil {
		return nil, err
	}
	d := &install.Deployed{Values: r.Config, Status: r.Info.Status.String(), Ours: r.Labels[ownerLabel] == owner}
	if r.Chart != nil && r.Chart.Metadata != nil {
		d.ChartVersion = r.Chart.Metadata.Version
	}
	d.Objects, err = objects(r)
	return d, err
}

// objects are those of a release, as Helm applied them.
func objects(r *releasev1.Release) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(r.Manifest), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := decoder.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decode what release %s is made of: %w", r.Name, err)
		}
		if len(u.Object) == 0 {
			continue
		}
		labels, annotations := u.GetLabels(), u.GetAnnotations()
		if labels == nil {
			labels = map[string]string{}
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		labels["app.kubernetes.io/managed-by"] = "Helm"
		annotations["meta.helm.sh/release-name"], annotations["meta.helm.sh/release-namespace"] = r.Name, r.Namespace
		u.SetLabels(labels)
		u.SetAnnotations(annotations)
		all = append(all, u)
	}
}

// apply makes a release, or changes the one that is there. An upgrade that fails is rolled back to what
// was there before.
func (c *client) apply(ctx context.Context, r install.Release) error {
	cfg, err := c.configuration(r.Namespace)
	if err != nil {
		return err
	}
	have, err := last(cfg, r.Name)
	if err != nil {
		return err
	}
	what, err := c.chartFor(r.Chart, have)
	if err != nil {
		return err
	}
	if have == nil {
		return c.install(ctx, cfg, r, what)
	}
	if have.Info.Status.IsPending() {
		// Whoever was at it is gone: the plan was shown, and agreed to.
		have.SetStatus(common.StatusFailed, "cut off")
		if err := cfg.Releases.Update(have); err != nil {
			return fmt.Errorf("take over release %s: %w", r.Name, err)
		}
	}
	return c.upgrade(ctx, cfg, r, what)
}

func (c *client) install(ctx context.Context, cfg *action.Configuration, r install.Release, what *chart.Chart) error {
	in := action.NewInstall(cfg)
	in.ReleaseName, in.Namespace = r.Name, r.Namespace
	in.WaitStrategy, in.Timeout = kube.HookOnlyStrategy, c.timeout
	in.Labels, in.ForceConflicts, in.HideNotes = map[string]string{ownerLabel: owner}, true, true
	if _, err := in.RunWithContext(ctx, what, r.Values); err != nil {
		return hint.Wrap(fmt.Errorf("install chart %s %s: %w", r.Chart.Name, r.Chart.Version, err), "what was made of it stays; "+again)
	}
	return nil
}

func (c *client) upgrade(ctx context.Context, cfg *action.Configuration, r install.Release, what *chart.Chart) error {
	good, err := running(cfg, r.Name)
	if err != nil {
		return err
	}
	up := action.NewUpgrade(cfg)
	up.Namespace, up.MaxHistory = r.Namespace, maxHistory
	up.WaitStrategy, up.Timeout = kube.HookOnlyStrategy, c.timeout
	up.ServerSideApply, up.ForceConflicts = "true", true
	up.ResetValues, up.HideNotes = true, true
	up.Labels = map[string]string{ownerLabel: owner}
	if _, err = up.RunWithContext(ctx, r.Name, what, r.Values); err == nil {
		return nil
	}
	err = fmt.Errorf("upgrade release %s to chart %s %s: %w", r.Name, r.Chart.Name, r.Chart.Version, err)
	if good == nil {
		return hint.Wrap(fmt.Errorf("%w; it never ran, so that there is nothing to go back to", err), again)
	}
	back := action.NewRollback(cfg)
	back.Version, back.MaxHistory = good.Version, maxHistory
	back.WaitStrategy, back.Timeout = kube.HookOnlyStrategy, c.timeout
	back.ServerSideApply, back.ForceConflicts = "true", true
	if failed := back.Run(r.Name); failed != nil {
		return errors.Join(err, fmt.Errorf("roll it back to revision %d: %w", good.Version, failed))
	}
	return hint.Wrap(fmt.Errorf("%w; it was rolled back to revision %d", err, good.Version), "what runs is what ran before; "+again)
}

const again = "once the cause is away, run the same command again"

// running is the revision that a release runs as, which need not be the newest
// one; nil when it never did.
func running(cfg *action.Configuration, name string) (*releasev1.Release, error) {
	r, err := cfg.Releases.Deployed(name)
	if errors.Is(err, driver.ErrNoDeployedReleases) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read release %s: %w", name, err)
	}
	return v1(r)
}

// remove is content with a release that is gone.
func (c *client) remove(namespace, name string) error {
	cfg, err := c.configuration(namespace)
	if err != nil {
		return err
	}
	un := action.NewUninstall(cfg)
	un.IgnoreNotFound, un.WaitStrategy, un.Timeout, un.DeletionPropagation = true, kube.HookOnlyStrategy, c.timeout, "background"
	if _, err := un.Run(name); err != nil {
		return fmt.Errorf("uninstall release %s: %w", name, err)
	}
	return nil
}

// render gives what a release would be made of, as YAML documents, without a
// cluster; hooks come first.
func (c *client) render(ctx context.Context, r install.Release) (string, error) {
	what, err := c.load(r.Chart)
	if err != nil {
		return "", err
	}
	in := action.NewInstall(action.NewConfiguration(action.ConfigurationSetLogger(slog.Default().Handler())))
	in.ReleaseName, in.Namespace, in.DryRunStrategy, in.IncludeCRDs = r.Name, r.Namespace, action.DryRunClient, true
	made, err := in.RunWithContext(ctx, what, r.Values)
	if err != nil {
		return "", fmt.Errorf("render chart %s %s: %w", r.Chart.Name, r.Chart.Version, err)
	}
	rel, err := v1(made)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	for _, h := range rel.Hooks {
		fmt.Fprintf(&out, "---\n%s\n", strings.TrimSpace(h.Manifest))
	}
	fmt.Fprintf(&out, "%s\n", strings.TrimSpace(rel.Manifest))
	return out.String(), nil
}
