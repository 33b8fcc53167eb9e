package libvirt

import (
	"encoding/xml"
	"fmt"
	"time"

	"github.com/nationtech/fleetctl/vm"
)

// namespace marks our metadata in a domain; what lacks it is not ours.
const (
	namespace = "https://fleetctl.nationtech.io/vm/1"
	prefix    = "fleet"
)

// The phases of a machine's creation. The domain is defined first, so that an
// interrupted creation can be seen, finished, and deleted.
const (
	phaseCreating = "creating"
	phaseReady    = "ready"
)

// metadata is what a domain cannot say of itself in libvirt's words.
type metadata struct {
	XMLName  xml.Name
	Xmlns    string      `xml:"xmlns:fleet,attr,omitempty"`
	Phase    string      `xml:"phase,attr"`
	Image    string      `xml:"image,attr"`
	ImageSHA string      `xml:"imageSHA256,attr"`
	DiskGiB  int         `xml:"diskGiB,attr"`
	User     string      `xml:"user,attr"`
	HostKey  string      `xml:"hostKey,attr,omitempty"`
	Firmware vm.Firmware `xml:"firmware,attr"`
	Accel    vm.Accel    `xml:"accel,attr"`
	Created  time.Time   `xml:"created,attr"`
	// Layer counts the disk's overlays, so that each gets a name of its own.
	Layer     int        `xml:"layer,attr,omitempty"`
	Snapshots []snapshot `xml:"snapshot"`
	// Resume is the path of the memory that the machine is to go on from, set
	// while a snapshot has it stopped.
	Resume string `xml:"resume,attr,omitempty"`
}

// snapshot says which volumes hold a machine's past state.
type snapshot struct {
	Name    string    `xml:"name,attr"`
	Created time.Time `xml:"created,attr"`
	Disk    string    `xml:"disk,attr"` // path of the layer that was current
	DiskGiB int       `xml:"diskGiB,attr"`
	Memory  string    `xml:"memory,attr,omitempty"` // path; "" when it was stopped
	NVRAM   string    `xml:"nvram,attr,omitempty"`  // volume; "" without UEFI
}

func newMetadata(spec vm.Spec, accel vm.Accel, now time.Time) metadata {
	return metadata{
		Phase:    phaseCreating,
		Image:    spec.Image.Name,
		ImageSHA: spec.Image.SHA256,
		DiskGiB:  spec.DiskGiB,
		User:     spec.FirstBoot.User,
		HostKey:  spec.FirstBoot.HostKeyPublic,
		Firmware: spec.Firmware,
		Accel:    accel,
		Created:  now.UTC().Truncate(time.Second),
	}
}

// encode gives the element as it stands in a domain.
func (m metadata) encode() (string, error) {
	m.XMLName = xml.Name{Local: prefix + ":vm"}
	m.Xmlns = namespace
	text, err := xml.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode metadata: %w", err)
	}
	return string(text), nil
}

// encodeBare gives the element as virDomainSetMetadata wants it: the library
// adds the prefix and the namespace.
func (m metadata) encodeBare() (string, error) {
	m.XMLName = xml.Name{Local: "vm"}
	m.Xmlns = ""
	text, err := xml.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode metadata: %w", err)
	}
	return string(text), nil
}

func (m metadata) find(name string) (snapshot, bool) {
	for _, s := range m.Snapshots {
		if s.Name == name {
			return s, true
		}
	}
	return snapshot{}, false
}

func decodeMetadata(text string) (metadata, error) {
	var m metadata
	if err := xml.Unmarshal([]byte(text), &m); err != nil {
		return metadata{}, fmt.Errorf("decode metadata: %w", err)
	}
	return m, nil
}
