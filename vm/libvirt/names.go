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

// belongsTo says whether a volume is one of the machine's.
func belongsTo(volume, name string) bool { return strings.HasPrefix(volume, name+".") }

// baseVolume holds an image's content, shared by the machines made from it.
func baseVolume(sha256 string) string { return fmt.Sprintf("%sbase.%s.qcow2", sharedMark, sha256) }
