package cli

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/fleetsim"
)

// userHZ is the unit of times in /proc, which is the same on every architecture
// that we build for (time(7), "The software clock").
const userHZ = 100

// processUse is what a process on this machine takes of it; zero when it is not
// there.
func processUse(pid int) fleetsim.Use {
	dir := "/proc/" + strconv.Itoa(pid)
	return fleetsim.Use{Resident: residentBytes(dir), CPU: cpuTime(dir)}
}

// residentBytes is VmRSS of proc_pid_status(5).
func residentBytes(dir string) int64 {
	data, err := os.ReadFile(dir + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}

// cpuTime is utime and stime of proc_pid_stat(5), the 14th and 15th field. The
// second is the program's name in parentheses, and may have blanks.
func cpuTime(dir string) time.Duration {
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHZ
}
