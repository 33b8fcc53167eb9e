package charts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/getter"
	releasev1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/repo/v1"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
)

const fetchTimeout = time.Minute

// chartFor is the chart of a release that is there when that is of the wanted
// version: its record holds it, and nothing has to be fetched to change values.
func (c *client) chartFor(want install.Chart, have *releasev1.Release) (*chart.Chart, error) {
	if c.dir == "" && have != nil && have.Chart != nil && have.Chart.Metadata != nil &&
		have.Chart.Metadata.Version == want.Version && len(have.Chart.Metadata.Dependencies) == 0 {
		return have.Chart, nil
	}
	return c.load(want)
}

// load finds a chart, and refuses another version than the wanted one.
func (c *client) load(want install.Chart) (*chart.Chart, error) {
	found, from, err := c.find(want)
	if err != nil {
		return nil, err
	}
	if err := found.Validate(); err != nil {
		return nil, fmt.Errorf("chart %s at %s: %w", want.Name, from, err)
	}
	if found.Metadata.Name != want.Name {
		return nil, hint.New(fmt.Sprintf("the chart at %s is %s, and not %s", from, found.Metadata.Name, want.Name), pull(want, c.dir))
	}
	if found.Metadata.Version != want.Version {
		return nil, hint.Wrap(fmt.Errorf("chart %s at %s is version %s, and %s is expected: %w", want.Name, from, found.Metadata.Version, want.Version, install.ErrChartVersion),
			fmt.Sprintf("get the expected one: %s; or take this one with --%s %s", pull(want, c.dir), want.VersionFlag, found.Metadata.Version))
	}
	return found, nil
}

func (c *client) find(want install.Chart) (found *chart.Chart, from string, err error) {
	if c.dir == "" {
		found, err = fetch(want)
		if err != nil {
			return nil, "", hint.Wrap(fmt.Errorf("fetch chart %s %s from %s: %w", want.Name, want.Version, want.Repository, err),
				"where this machine cannot reach that, bring the chart in a directory of its own: "+pull(want, "DIRECTORY")+"; then: --chart-dir DIRECTORY")
		}
		return found, want.Repository, nil
	}
	paths := []string{filepath.Join(c.dir, want.Name), filepath.Join(c.dir, want.Name+"-"+want.Version+".tgz")}
	others, err := filepath.Glob(filepath.Join(c.dir, want.Name+"-[0-9]*.tgz"))
	if err != nil {
		return nil, "", fmt.Errorf("look for charts in %s: %w", c.dir, err)
	}
	for _, path := range append(paths, others...) {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		found, err := loader.Load(path)
		if err != nil {
			return nil, "", fmt.Errorf("load chart %s: %w", path, err)
		}
		return found, path, nil
	}
	return nil, "", hint.New(fmt.Sprintf("there is no chart %s in %s: neither a directory %s nor %s-%s.tgz", want.Name, c.dir, want.Name, want.Name, want.Version), pull(want, c.dir))
}

// pull is the command that gets a chart.
func pull(want install.Chart, dir string) string {
	command := fmt.Sprintf("helm pull %s --repo %s --version %s", want.Name, want.Repository, want.Version)
	if dir != "" {
		command += " --destination " + dir
	}
	return command
}

// fetch gets a chart from its repository, into memory.
func fetch(want install.Chart) (*chart.Chart, error) {
	getters := getter.Getters(getter.WithTimeout(fetchTimeout))
	url, err := repo.FindChartInRepoURL(want.Repository, want.Name, getters, repo.WithChartVersion(want.Version))
	if err != nil {
		return nil, err
	}
	get, err := getters.ByScheme("https")
	if err != nil {
		return nil, err
	}
	data, err := get.Get(url)
	if err != nil {
		return nil, err
	}
	return loader.LoadArchive(data)
}
