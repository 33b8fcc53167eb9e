package libvirt

import (
	"github.com/nationtech/fleetctl/cloudinit"
	"github.com/nationtech/fleetctl/vm"
)

// seedISO makes the disk that delivers first boot.
func seedISO(spec vm.Spec) ([]byte, error) {
	first := spec.FirstBoot
	config := cloudinit.Config{
		Hostname: first.Hostname,
		User: cloudinit.User{
			Name:           first.User,
			AuthorizedKeys: first.AuthorizedKeys,
			PasswordHash:   string(first.PasswordHash),
		},
		Packages: first.Packages,
		Timezone: first.Timezone,
		Extra:    first.Extra,
		MAC:      macAddress(spec.Name),
	}
	if first.HostKeyPrivate != "" {
		config.HostKey = &cloudinit.HostKey{Private: string(first.HostKeyPrivate), Public: first.HostKeyPublic}
	}
	for _, file := range first.Files {
		config.Files = append(config.Files, cloudinit.File(file))
	}
	seed, err := config.Render()
	if err != nil {
		return nil, err
	}
	return seed.ISO()
}
