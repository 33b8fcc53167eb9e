package charts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/install"
	"github.com/nationtech/fleetctl/internal/install/helmchart"
)

var wanted = install.Chart{Name: "web", Version: "1.2.3", Repository: "https://charts.example.com", VersionFlag: "web-chart-version"}

// write makes a chart in a directory of charts; packed makes an archive of it.
func write(t *testing.T, dir, folder, name, version string, packed bool) {
	t.Helper()
	root := filepath.Join(dir, folder)
	for path, text := range map[string]string{
		"Chart.yaml":         "apiVersion: v2\nname: " + name + "\nversion: " + version + "\n",
		"values.yaml":        "greeting: hello\n",
		"templates/map.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {greeting: {{ .Values.greeting }}}\n",
	} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if !packed {
		return
	}
	found, err := loader.Load(root)
	if err == nil {
		_, err = chartutil.Save(found, dir)
	}
	if err = errors.Join(err, os.RemoveAll(root)); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	for _, tt := range []struct {
		what        string
		make        func(t *testing.T, dir string)
		err, advice string
		wrong       bool // of version
	}{
		{"directory", func(t *testing.T, dir string) { write(t, dir, "web", "web", "1.2.3", false) }, "", "", false},
		{"archive", func(t *testing.T, dir string) { write(t, dir, "web", "web", "1.2.3", true) }, "", "", false},
		{"nothing", func(*testing.T, string) {}, "there is no chart web in", "helm pull web --repo https://charts.example.com --version 1.2.3", false},
		{"another version", func(t *testing.T, dir string) { write(t, dir, "web", "web", "1.3.0", true) }, "is version 1.3.0, and 1.2.3 is expected", "--web-chart-version 1.3.0", true},
		{"another chart", func(t *testing.T, dir string) { write(t, dir, "web", "wob", "1.2.3", false) }, "is wob, and not web", "helm pull", false},
		{"an archive of one that begins the same", func(t *testing.T, dir string) { write(t, dir, "web-more", "web-more", "1.2.3", true) }, "there is no chart web in", "helm pull", false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			tt.make(t, dir)
			_, err := (&client{dir: dir}).load(wanted)
			if tt.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(hint.Of(err), tt.advice) || errors.Is(err, install.ErrChartVersion) != tt.wrong {
				t.Errorf("%v\nhint: %s", err, hint.Of(err))
			}
		})
	}
}

// The program answers each request, also one that it does not know.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "web", "web", "1.2.3", false)
	ask := func(r helmchart.Request) (a helmchart.Answer) {
		t.Helper()
		in, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var out, log bytes.Buffer
		stays, end := io.Pipe() // who asks waits for the answer
		defer end.Close()
		if err := Serve(context.Background(), io.MultiReader(bytes.NewReader(in), stays), &out, &log); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &a); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		return a
	}
	release := install.Release{Name: "mine", Namespace: "default", Chart: wanted, Values: map[string]any{"greeting": "salut"}}
	if a := ask(helmchart.Request{Operation: helmchart.OperationRender, Dir: dir, Release: release}); a.Error != "" || !strings.Contains(a.Rendered, "name: mine") || !strings.Contains(a.Rendered, "salut") {
		t.Errorf("rendered %+v", a)
	}
	release.Chart.Version = "2.0.0"
	if a := ask(helmchart.Request{Operation: helmchart.OperationRender, Dir: dir, Release: release}); !a.Unexpected || a.Hint == "" {
		t.Errorf("another version: %+v", a)
	}
	if a := ask(helmchart.Request{Operation: "dance"}); a.Error == "" || a.Hint == "" {
		t.Errorf("an unknown operation: %+v", a)
	}
	if err := Serve(context.Background(), strings.NewReader("not JSON"), &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
		t.Error("what is no request was answered")
	}
}
