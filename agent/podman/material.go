package podman

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/wire"
)

// Where a container finds what it has from Secrets and ConfigMaps, apart from
// the files that it asked for by path.
const (
	insideDir    = "/.fleet"
	insideRunner = insideDir + "/run" // this agent's own program
	insideEnv    = insideDir + "/environment.json"
	envFile      = "environment.json"
)

// Vault keeps what is secret, in memory only.
type Vault struct {
	// Dir has to be on a tmpfs that the device's disk never sees.
	Dir    string
	Device string
	// Keys gives the device's sealing keys, the one in use first.
	Keys func() ([]*ecdh.PrivateKey, error)
	// TagKey gives the key that tags of content are made with, which stays the
	// same when the sealing key is replaced: what did not change is not made
	// anew. derived is what it is on a device that has none yet.
	TagKey func(derived []byte) []byte
	// Runner is the agent's program on the device. It gives a container its
	// secret variables: what Podman is told of, it writes to the disk.
	Runner string
}

// material is what one service takes from Secrets and ConfigMaps.
type material struct {
	tag    string            // changes with the content; "" when there is none
	dir    string            // of this service and content, in the vault
	dirs   []string          // below dir; one may be empty
	files  map[string][]byte // below dir
	mounts []Mount
	env    bool // some variables come from it
	login  *login
}

// login is for the registry of a service's image.
type login struct{ user, password string }

// open opens what came with a desired state; nil when nothing did.
func (v Vault) open(s *wire.DesiredState) (*wire.Material, []byte, error) {
	if s.Sealed == nil {
		return nil, nil, nil
	}
	if s.Sealed.Missing != "" {
		return nil, nil, errors.New(s.Sealed.Missing)
	}
	if v.Keys == nil {
		return nil, nil, errors.New("this device has no sealing key")
	}
	keys, err := v.Keys()
	if err != nil {
		return nil, nil, fmt.Errorf("open secrets: %w", err)
	}
	var m wire.Material
	err = wire.ErrNotForUs
	for _, key := range keys {
		if m, err = s.Sealed.OpenMaterial(key, v.Device, s.Deployment); !errors.Is(err, wire.ErrNotForUs) {
			break
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open secrets: %w", err)
	}
	// The tag ends up on the disk, in a label: only with a key of the device's
	// can a guess at the content be checked against it.
	mac := hmac.New(sha256.New, keys[0].Bytes())
	mac.Write([]byte("fleet.nationtech.io/material-tag/v1"))
	return &m, v.TagKey(mac.Sum(nil)), nil
}

// of picks out what a service takes. Every missing object and key is named.
func (v Vault) of(deployment string, s wire.Service, m *wire.Material, tagKey []byte) (material, error) {
	if len(s.Objects()) == 0 {
		return material{}, nil
	}
	if m == nil {
		return material{}, errors.New("the secrets and configuration that it refers to did not come with it")
	}
	var errs []error
	get := func(object, key string) []byte {
		data, ok := m.Objects[object][key]
		if !ok {
			errs = append(errs, fmt.Errorf("%s has no key %q", object, key))
		}
		return data
	}
	out := material{files: map[string][]byte{}}
	env := map[string]string{}
	for _, e := range s.Env {
		if e.ValueFrom == nil {
			continue
		}
		if ref := e.ValueFrom.SecretKeyRef; ref != nil {
			env[e.Name] = string(get(wire.SecretObject(ref.Name), ref.Key))
		} else if ref := e.ValueFrom.ConfigMapKeyRef; ref != nil {
			env[e.Name] = string(get(wire.ConfigMapObject(ref.Name), ref.Key))
		}
	}
	for i, f := range s.Files {
		dir := fmt.Sprintf("files-%d", i)
		out.dirs = append(out.dirs, dir)
		keys := f.Keys
		if len(keys) == 0 {
			keys = slices.Sorted(maps.Keys(m.Objects[f.Object()]))
		}
		for _, key := range keys {
			out.files[filepath.Join(dir, key)] = get(f.Object(), key)
		}
	}
	if s.RegistryCredentials != "" {
		var err error
		if out.login, err = parseLogin(get(wire.SecretObject(s.RegistryCredentials), ".dockerconfigjson"), s.Image); err != nil {
			errs = append(errs, fmt.Errorf("registry credentials %s: %w", s.RegistryCredentials, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return material{}, err
	}
	if len(env) > 0 {
		data, err := json.Marshal(env)
		if err != nil {
			return material{}, fmt.Errorf("encode environment: %w", err)
		}
		out.files[envFile], out.env = data, true
	}
	if len(out.files) == 0 && len(out.dirs) == 0 {
		return out, nil // a login leaves nothing in the container
	}
	out.tag = tagOf(out.files, tagKey)
	out.dir = filepath.Join(v.Dir, deployment, s.Name, out.tag)
	for i, f := range s.Files {
		out.mounts = append(out.mounts, readOnly(filepath.Join(out.dir, out.dirs[i]), f.Path))
	}
	if out.env {
		out.mounts = append(out.mounts, readOnly(v.Runner, insideRunner), readOnly(filepath.Join(out.dir, envFile), insideEnv))
	}
	return out, nil
}

func readOnly(from, to string) Mount {
	return Mount{Type: "bind", Source: from, Destination: to, Options: []string{"rbind", "ro"}}
}

func tagOf(files map[string][]byte, key []byte) string {
	mac := hmac.New(sha256.New, key)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(mac, "%d %s %d ", len(name), name, len(files[name]))
		mac.Write(files[name])
	}
	return hex.EncodeToString(mac.Sum(nil)[:12])
}

// write puts the files in place if they are not: after a reboot the memory
// they were in is empty. Earlier content of the service goes when its
// container is gone, see sweep.
func (m material) write() error {
	if m.dir == "" {
		return nil
	}
	for _, dir := range append([]string{""}, m.dirs...) {
		if err := os.MkdirAll(filepath.Join(m.dir, dir), 0o755); err != nil {
			return fmt.Errorf("put secrets into memory: %w", err)
		}
	}
	for name, data := range m.files {
		path := filepath.Join(m.dir, name)
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) {
			continue
		}
		// Only the agent's user gets as far as the directory; inside the
		// container whoever it runs as has to read them.
		if err := writeReadable(path, data); err != nil {
			return fmt.Errorf("put secrets into memory: %w", err)
		}
	}
	return openDirs(m.dir)
}

// writeReadable is atomic, and not subject to the umask.
func writeReadable(path string, data []byte) error {
	tmp := path + ".new"
	err := os.WriteFile(tmp, data, 0o444)
	if err == nil {
		err = os.Chmod(tmp, 0o444)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	return err
}

// openDirs lets the container's user into the directories below dir.
func openDirs(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return os.Chmod(path, 0o755)
	})
}

// sweep removes the content of a service but for what is in use.
func (v Vault) sweep(k key, inUse string) error {
	dir := filepath.Join(v.Dir, k.deployment, k.service)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); path != inUse {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	if inUse == "" {
		err = errors.Join(err, os.Remove(dir))
	}
	if err != nil {
		return fmt.Errorf("remove secrets from memory: %w", err)
	}
	return nil
}

// parseLogin reads a .dockerconfigjson for the registry of image.
func parseLogin(data []byte, image string) (*login, error) {
	var config struct {
		Auths map[string]struct {
			Username string `json:"username"`
			Password string `json:"password"`
			Auth     string `json:"auth"`
		} `json:"auths"`
	}
	if json.Unmarshal(data, &config) != nil {
		return nil, errors.New("is no .dockerconfigjson") // and is not quoted
	}
	registry, _ := splitRegistry(normalize(image))
	for host, a := range config.Auths {
		host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
		host, _, _ = strings.Cut(host, "/")
		if host != registry && (registry != defaultRegistry || host != "index.docker.io") {
			continue
		}
		if a.Username != "" {
			return &login{a.Username, a.Password}, nil
		}
		decoded, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(string(decoded), ":")
		if err != nil || !ok {
			return nil, errors.New("has neither username and password nor auth for " + registry)
		}
		return &login{user, password}, nil
	}
	return nil, errors.New("has nothing for " + registry)
}
