// Package cloudinit makes what cloud-init reads at first boot: user-data,
// meta-data, network-config, and the NoCloud seed disk that carries them. It is
// pure: the same input gives the same bytes, and nothing outside is read. How
// the disk reaches a machine is vm/libvirt's affair.
package cloudinit

import (
	"encoding/base64"
	"fmt"
	"io/fs"

	"sigs.k8s.io/yaml"
)

// Config is what a machine should be after its first boot.
type Config struct {
	Hostname string
	User     User
	// HostKey is the machine's SSH host key, made outside so that the first
	// connection can already be checked, and so that the guest need not make
	// keys itself, which takes seconds under emulation. nil: the guest makes
	// its own.
	HostKey  *HostKey
	Packages []string
	Files    []File
	Timezone string // such as "Europe/Paris"; "" leaves the image's
	// Extra is a user's own cloud-config document; it is merged over ours.
	Extra []byte
	// MAC is the interface that gets an address by DHCP, "52:54:00:…".
	MAC string
}

// User is the login that first boot makes, with sudo that asks nothing.
type User struct {
	Name           string
	AuthorizedKeys []string // lines of an authorized_keys file
	// PasswordHash is a crypt(5) string. When set, SSH accepts the password.
	PasswordHash string
}

// HostKey is an Ed25519 host key.
type HostKey struct {
	Private string // OpenSSH PEM
	Public  string // "ssh-ed25519 AAAA…"
}

// File is a file written at first boot, owned by root.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
}

// The names are cloud-init's: https://docs.cloud-init.io/en/latest/reference/modules.html.
type userData struct {
	Hostname     string            `json:"hostname"`
	EtcHosts     string            `json:"manage_etc_hosts"`
	Locale       string            `json:"locale"`
	Timezone     string            `json:"timezone,omitempty"`
	Users        []user            `json:"users"`
	SSHPassword  bool              `json:"ssh_pwauth"`
	DisableRoot  bool              `json:"disable_root"`
	DeleteKeys   bool              `json:"ssh_deletekeys"`
	SSHKeys      map[string]string `json:"ssh_keys,omitempty"`
	Apt          apt               `json:"apt"`
	Update       bool              `json:"package_update,omitempty"`
	Packages     []string          `json:"packages,omitempty"`
	WriteFiles   []writeFile       `json:"write_files,omitempty"`
	GrowPart     growPart          `json:"growpart"`
	ResizeRootFS bool              `json:"resize_rootfs"`
}

type user struct {
	Name           string   `json:"name"`
	Gecos          string   `json:"gecos"`
	Shell          string   `json:"shell"`
	Sudo           string   `json:"sudo"`
	LockPasswd     bool     `json:"lock_passwd"`
	Passwd         string   `json:"passwd,omitempty"`
	AuthorizedKeys []string `json:"ssh_authorized_keys,omitempty"`
}

type apt struct {
	PreserveSourcesList bool `json:"preserve_sources_list"`
}

type writeFile struct {
	Path        string `json:"path"`
	Encoding    string `json:"encoding"`
	Content     string `json:"content"`
	Owner       string `json:"owner"`
	Permissions string `json:"permissions"`
}

type growPart struct {
	Mode    string   `json:"mode"`
	Devices []string `json:"devices"`
}

// header marks the document for cloud-init; without it the file is ignored.
const header = "#cloud-config\n"

// UserData renders the user-data document.
func (c Config) UserData() ([]byte, error) {
	u := userData{
		Hostname: c.Hostname,
		// Only the 127.0.1.1 line is kept up: "true" would rewrite the file
		// at every boot and undo what a person or onboarding adds to it.
		EtcHosts: "localhost",
		// Images without locales report an error for anything else.
		Locale:   "C.UTF-8",
		Timezone: c.Timezone,
		Users: []user{{
			Name:           c.User.Name,
			Gecos:          c.User.Name,
			Shell:          "/bin/bash",
			Sudo:           "ALL=(ALL) NOPASSWD:ALL",
			LockPasswd:     c.User.PasswordHash == "",
			Passwd:         c.User.PasswordHash,
			AuthorizedKeys: c.User.AuthorizedKeys,
		}},
		SSHPassword:  c.User.PasswordHash != "",
		DisableRoot:  true,
		DeleteKeys:   true,
		Apt:          apt{PreserveSourcesList: true},
		Update:       len(c.Packages) > 0,
		Packages:     c.Packages,
		GrowPart:     growPart{Mode: "auto", Devices: []string{"/"}},
		ResizeRootFS: true,
	}
	if c.HostKey != nil {
		u.SSHKeys = map[string]string{"ed25519_private": c.HostKey.Private, "ed25519_public": c.HostKey.Public}
	}
	for _, f := range c.Files {
		u.WriteFiles = append(u.WriteFiles, writeFile{
			Path:        f.Path,
			Encoding:    "b64",
			Content:     base64.StdEncoding.EncodeToString(f.Content),
			Owner:       "root:root",
			Permissions: fmt.Sprintf("%04o", f.Mode.Perm()),
		})
	}
	body, err := yaml.Marshal(u)
	if err != nil {
		return nil, fmt.Errorf("encode user-data: %w", err)
	}
	if len(c.Extra) > 0 {
		if body, err = merge(body, c.Extra); err != nil {
			return nil, err
		}
	}
	return append([]byte(header), body...), nil
}
