package issuer_test

import (
	"bufio"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/issuer"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.person("root", issuer.RoleAdmin)
	token := f.signIn("root")
	m := f.enrol(token.AccessToken, "pi", machineKeys()[0])
	before, address := f.Facts, f.URL[len("https://"):]
	f.stop()
	f = startAt(t, f.dir, address, 0)
	after := f.Facts
	if before.AdminPassword == "" || after.AdminPassword != "" {
		t.Error("the first password is told at the first start, and at no other")
	}
	if before.AdminPassword = ""; before != after {
		t.Errorf("was %+v, is %+v", before, after)
	}
	if _, err := f.claims(token.AccessToken); err != nil {
		t.Errorf("a token from before: %v", err)
	}
	if got := f.mint(f.assertion(m, nil)); got.Status != http.StatusOK {
		t.Errorf("a machine from before: %+v", got)
	}
	if got := f.refresh(token.RefreshToken); got.Status != http.StatusOK {
		t.Errorf("a session from before: %+v", got)
	}
	if got := f.refresh(token.RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("reuse: %+v", got)
	}
	err := filepath.WalkDir(filepath.Join(f.dir, "issuer"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %s", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// writerDir tells the test binary to be the process that is killed.
const writerDir = "ISSUER_TEST_WRITER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(dir string) {
	ctx, cancel := contextWithin(time.Minute)
	defer cancel()
	people, err := issuer.OpenPeople(ctx, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("user%d", i)
		if _, err := people.Add(ctx, issuer.NewPerson{Username: name, Password: password, Roles: []string{issuer.RoleViewer}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(name) // what was acknowledged must be there afterwards
	}
}

func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	f := start(t)
	dir := filepath.Join(f.dir, "issuer")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		acknowledged = append(acknowledged, lines.Text())
		if len(acknowledged) == 8 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(acknowledged) < 8 {
		t.Fatalf("it was not killed: %v, %v", err, acknowledged)
	}
	// The server that had the database open goes on, and so does the next one.
	f.signIn("user0")
	f.stop()
	f = startAt(t, f.dir, f.URL[len("https://"):], 0)
	people, err := issuer.OpenPeople(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer people.Close()
	list, err := people.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range acknowledged {
		if !slices.ContainsFunc(list, func(p issuer.Person) bool { return p.Username == name }) {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	f.signIn("user1")
}
