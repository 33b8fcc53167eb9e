package kubeconfig_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/nationtech/fleetctl/internal/kubeconfig"
)

// TestPutAndRemove: many at once, through a link, and every entry is there; then
// none is, and the file is as it was.
func TestPutAndRemove(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "config")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	put := func(name string) bool {
		current, err := kubeconfig.Put(t.Context(), link, kubeconfig.Entry{Name: name, Server: "https://k.example", Command: "fleetctl", Args: []string{"token"}})
		if err != nil {
			t.Error(err)
		}
		return current
	}
	if err := os.WriteFile(real, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !put("first") {
		t.Error("the only context is not the current one")
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if put(fmt.Sprintf("more-%d", i)) {
				t.Error("the current context was changed")
			}
		})
	}
	wg.Wait()
	config, err := clientcmd.LoadFromFile(link)
	if err != nil || len(config.Contexts) != 11 || config.CurrentContext != "first" {
		t.Fatalf("%v, %+v", err, config)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became a file: %v", err)
	}
	for name := range config.Contexts {
		if err := kubeconfig.Remove(t.Context(), link, name); err != nil {
			t.Error(err)
		}
	}
	if config, err = clientcmd.LoadFromFile(link); err != nil || len(config.Contexts)+len(config.Clusters)+len(config.AuthInfos) != 0 || config.CurrentContext != "" {
		t.Errorf("%v, %+v", err, config)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

// TestRefused: a file that cannot be understood stays as it is, and a lock that
// is held is waited for no longer than the caller wants.
func TestRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte("kind: [no kubeconfig"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kubeconfig.Put(t.Context(), path, kubeconfig.Entry{Name: "a"}); err == nil {
		t.Error("it was replaced")
	}
	if data, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(data), "kind: [no") {
		t.Errorf("%v, %q", err, data)
	}
	if err := os.WriteFile(path+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := kubeconfig.Remove(ctx, path, "a"); err == nil {
		t.Error("the lock was ignored")
	}
}
