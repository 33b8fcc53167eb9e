package fleetsim

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/nationtech/fleetctl/internal/hint"
)

// spareFiles is what this process needs beside its devices' connections.
const spareFiles = 256

// checkFileLimit refuses more devices than this process may have connections:
// a device's permissions are its connection's, so that devices cannot share one.
// Go raises the soft limit to the hard one at the start (getrlimit(2)).
func checkFileLimit(devices int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if need := uint64(devices) + spareFiles; limit.Cur < need { //nolint:gosec // Validate bounds it
		return hint.New(fmt.Sprintf("%d devices need as many connections, and this process may open %d files", devices, limit.Cur),
			fmt.Sprintf("play %d at most, or raise the limit: ulimit -n %d", int64(limit.Cur)-spareFiles, need)) //nolint:gosec // a limit of files
	}
	return nil
}
