package cloudinit

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"sigs.k8s.io/yaml"
)

// Seed is the content of a NoCloud seed disk.
type Seed struct {
	UserData, MetaData, NetworkConfig []byte
}

// Render makes the three documents. The instance id is derived from the other
// two, so that a changed seed is a new instance to cloud-init and an unchanged
// one is not.
func (c Config) Render() (Seed, error) {
	user, err := c.UserData()
	if err != nil {
		return Seed{}, err
	}
	network, err := c.networkConfig()
	if err != nil {
		return Seed{}, err
	}
	digest := sha256.New()
	for _, part := range [][]byte{user, network} {
		fmt.Fprintf(digest, "%d\n%s", len(part), part)
	}
	meta, err := yaml.Marshal(struct {
		InstanceID string `json:"instance-id"`
		Hostname   string `json:"local-hostname"`
	}{fmt.Sprintf("iid-%x", digest.Sum(nil)[:12]), c.Hostname})
	if err != nil {
		return Seed{}, fmt.Errorf("encode meta-data: %w", err)
	}
	return Seed{UserData: user, MetaData: meta, NetworkConfig: network}, nil
}

// networkConfig is version 2 (netplan's format): one interface, found by its
// MAC address since interface names differ between architectures.
func (c Config) networkConfig() ([]byte, error) {
	type match struct {
		MAC string `json:"macaddress"`
	}
	type ethernet struct {
		Match      match  `json:"match"`
		DHCP4      bool   `json:"dhcp4"`
		Identifier string `json:"dhcp-identifier"` // the MAC, so that a VM made again gets its old address
	}
	type config struct {
		Version   int                 `json:"version"`
		Ethernets map[string]ethernet `json:"ethernets"`
	}
	network, err := yaml.Marshal(config{2, map[string]ethernet{"lan": {match{c.MAC}, true, "mac"}}})
	if err != nil {
		return nil, fmt.Errorf("encode network-config: %w", err)
	}
	return network, nil
}

const (
	isoBlock    = 2048
	volumeLabel = "cidata" // what cloud-init's NoCloud source looks for
)

// ISO packs the seed into an ISO 9660 image. Rock Ridge keeps the lower-case
// names; without it user-data would be USER_DAT and not be found.
func (s Seed) ISO() ([]byte, error) {
	dir, err := os.MkdirTemp("", "fleetctl-seed-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the seed: %w", err)
	}
	defer os.RemoveAll(dir)
	image, err := os.OpenFile(filepath.Join(dir, "seed.iso"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the seed: %w", err)
	}
	defer image.Close()
	workspace := filepath.Join(dir, "files")
	if err := os.Mkdir(workspace, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for the seed: %w", err)
	}
	// Size 0 is "as large as needed".
	iso, err := iso9660.Create(file.New(image, false), 0, 0, isoBlock, workspace)
	if err != nil {
		return nil, fmt.Errorf("make the seed's file system: %w", err)
	}
	for name, content := range map[string][]byte{"user-data": s.UserData, "meta-data": s.MetaData, "network-config": s.NetworkConfig} {
		if err := os.WriteFile(filepath.Join(workspace, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("add %s to the seed: %w", name, err)
		}
	}
	if err := iso.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: volumeLabel}); err != nil {
		return nil, fmt.Errorf("write the seed: %w", err)
	}
	if _, err := image.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the seed: %w", err)
	}
	data, err := io.ReadAll(image)
	if err != nil {
		return nil, fmt.Errorf("read the seed: %w", err)
	}
	return data, nil
}
