package main

import (
	"context"
	"crypto/ecdh"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nationtech/fleetctl/agent"
	"github.com/nationtech/fleetctl/agent/config"
	"github.com/nationtech/fleetctl/agent/disk"
	"github.com/nationtech/fleetctl/agent/exposition"
	"github.com/nationtech/fleetctl/agent/inventory"
	"github.com/nationtech/fleetctl/agent/link"
	"github.com/nationtech/fleetctl/agent/podman"
	"github.com/nationtech/fleetctl/internal/credential"
	"github.com/nationtech/fleetctl/internal/devicekey"
	"github.com/nationtech/fleetctl/internal/machineid"
	"github.com/nationtech/fleetctl/internal/wire"
)

// gcPercent trades a little CPU of a nearly idle process for memory.
const gcPercent = 40

// run puts the agent together and runs it.
func run(ctx context.Context, c config.Config, log *slog.Logger) error {
	debug.SetGCPercent(gcPercent)
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	machine, err := machineName()
	if err != nil {
		return err
	}
	roots, err := roots(c.NATS.CAFile)
	if err != nil {
		return err
	}
	source, now, err := source(c)
	if err != nil {
		return err
	}
	facts := inventory.Collect("/", c.StateDir)
	engine, engineName := engine(c, facts.BootID, log)
	a, err := agent.New(agent.Config{
		Device:     c.DeviceID,
		Version:    version,
		StateDir:   c.StateDir,
		Labels:     c.Labels,
		MachineID:  machine,
		Engine:     engine,
		EngineName: engineName,
		Keys:       func() ([]byte, error) { return os.ReadFile(c.Credentials.SigningKeysFile) },
		Connect: func(ctx context.Context, connected func()) (agent.Link, error) {
			return link.Open(ctx, link.Config{
				Device: c.DeviceID, URLs: c.NATS.URLs, Roots: roots, Log: log, Connected: connected,
				Source: source,
			})
		},
		Inventory:  func() wire.Inventory { return inventory.Collect("/", c.StateDir) },
		FleetTime:  now,
		Supervisor: newSystemd(log),
		Metrics:    metricsListener(c, log),
		Log:        log,
	})
	if err != nil {
		return err
	}
	log.Info("agent starts", "version", version, "device", c.DeviceID)
	err = a.Run(ctx)
	log.Info("agent stopped; containers keep running")
	return err
}

// metricsListener gives nil where nobody asks. That it cannot be had is no
// reason not to run containers.
func metricsListener(c config.Config, log *slog.Logger) net.Listener {
	if c.Metrics.Listen == "" {
		return nil
	}
	l, err := exposition.Listen(c.Metrics.Listen)
	if err != nil {
		log.Warn("metrics are not served", "error", err, "hint", "choose another metrics.listen in the device's configuration")
		return nil
	}
	return l
}

// source is what the agent proves with who it is, and what knows the fleet's
// time; nil when nothing does.
func source(c config.Config) (credential.Source, func() time.Time, error) {
	if c.Credentials.Type == config.CredentialPSK {
		return credential.PSK{User: c.DeviceID, File: c.Credentials.File}, nil, nil
	}
	roots, err := roots(c.Credentials.CAFile)
	if err != nil {
		return nil, nil, err
	}
	oidc := credential.NewOIDC(credential.OIDCConfig{
		Issuer: c.Credentials.Issuer, Project: c.Credentials.Project, File: c.Credentials.File,
		HTTPClient: credential.HTTPClient(roots),
	})
	return oidc, oidc.Now, nil
}

func engine(c config.Config, boot string, log *slog.Logger) (agent.Engine, string) {
	if !c.Podman.Enabled {
		return &agent.NoEngine{Reason: "podman is disabled in the device's configuration (podman.enabled)"}, "none"
	}
	runs, err := disk.OpenRuns(c.StateDir, boot)
	if err != nil {
		log.Warn("it is not known which containers ran before the last boot", "error", err)
	}
	images, err := disk.OpenImages(c.StateDir)
	if err != nil {
		log.Warn("it is not known which images were fetched", "error", err)
	}
	intents, err := disk.OpenIntents(c.StateDir)
	if err != nil {
		log.Warn("it is not known which services were stopped by hand", "error", err)
	}
	return podman.New(podman.Config{
		Runs:               runs,
		Images:             images,
		Intents:            intents,
		Vault:              vault(c, log),
		PreloadDir:         filepath.Join(c.StateDir, "preload"),
		Space:              func() (free, total uint64, err error) { return space(c.StateDir) },
		MemoryEvents:       memoryEvents(),
		Client:             podman.NewClient(c.Podman.Socket),
		InsecureRegistries: c.Podman.InsecureRegistries,
		Log:                log,
	}), "podman"
}

// memoryEvents is of the cgroup of this user's own systemd, which the containers
// of rootless Podman are below (user@.service(5)).
func memoryEvents() string {
	uid := os.Getuid()
	return fmt.Sprintf("/sys/fs/cgroup/user.slice/user-%d.slice/user@%d.service/memory.events", uid, uid)
}

// vault keeps secrets below the unit's runtime directory, which is in memory
// and this user's alone.
func vault(c config.Config, log *slog.Logger) podman.Vault {
	dir := os.Getenv("RUNTIME_DIRECTORY")
	if dir == "" {
		dir = filepath.Join("/run/user", strconv.Itoa(os.Getuid()), "fleet-agent")
	}
	return podman.Vault{
		Dir: filepath.Join(dir, "material"), Device: c.DeviceID, Runner: program(),
		Keys: func() ([]*ecdh.PrivateKey, error) { return devicekey.SealingKeys(devicekey.Dir) },
		TagKey: func(derived []byte) []byte {
			key, err := disk.TagKey(c.StateDir, derived)
			if err != nil {
				log.Warn("services with secrets are made anew when the sealing key is replaced", "error", err)
			}
			return key
		},
	}
}

// program is this program by the name that stays when a new version comes.
func program() string {
	if filepath.IsAbs(os.Args[0]) {
		return os.Args[0]
	}
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// space is that of the disk which dir is on, for whoever is not root.
func space(dir string) (free, total uint64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// machineName hashes the machine id, which itself stays on the machine.
func machineName() (string, error) {
	data, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return "", fmt.Errorf("read machine id: %w", err)
	}
	return machineid.Name(string(data))
}

// roots reads the CA that the broker's certificate must be signed by.
func roots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("read CA: %s has no certificate in PEM", path)
	}
	return pool, nil
}
