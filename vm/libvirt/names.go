package libvirt

import (
	"fmt"
	"strings"
)

// The pool is ours alone. A machine's volumes are named for it: names have no
// dot, so that "NAME." begins no other machine's volumes. What several
// machines share begins with an underscore, which no name contains.
const (
	poolName   = "fleet"
	poolPath   = "/var/lib/libvirt/images/fleet" // where AppArmor and SELinux expect disks
	sharedMark = "_"
)

func diskVolume(name string) string    { return name + ".disk.qcow2" }
func seedVolume(name string) string    { return name + ".seed.iso" }
func consoleVolume(name string) string { return name + ".console.log" }

func nvramVolume(name string) string { return name + ".nvram.fd" }

// layerVolume is the disk's n-th overlay; the first is diskVolume.
func layerVolume(name string, n int) string { return fmt.Sprintf("%s.disk.%d.qcow2", name, n) }

func isLayer(volume, name string) bool { return strings.HasPrefix(volume, name+".disk.") }

func snapshotMemory(name, snapshot string) string { return name + ".snapshot." + snapshot + ".memory" }
func snapshotNVRAM(name, snapshot string) string  { return name + ".snapshot." + snapshot + ".nvram.fd" }

// nvramOfMemory is the volume that a snapshot keeps beside the memory's.
func nvramOfMemory(memory string) string { return strings.TrimSuffix(memory, ".memory") + ".nvram.fd" }

func inPool(volume string) string { return poolPath + "/" + volume }

// belongsTo says whether a volume is one of the machine's.
func belongsTo(volume, name string) bool { return strings.HasPrefix(volume, name+".") }

// firmwareVolume holds a firmware that was padded, shared like an image.
func firmwareVolume(sha256 string) string { return sharedMark + "firmware." + sha256 + ".fd" }

// baseVolume holds an image's content, shared by the machines made from it.
func baseVolume(sha256 string) string { return fmt.Sprintf("%sbase.%s.qcow2", sharedMark, sha256) }
