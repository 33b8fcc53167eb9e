/* A card that takes its time: every program of the host waits before what it
 * wrote is safe, as on a worn SD card. Loaded through /etc/ld.so.preload. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void slow(void) {
	struct timespec t = {.tv_nsec = 400000000};
	nanosleep(&t, 0);
}

int fsync(int fd) { slow(); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { slow(); return syscall(SYS_fdatasync, fd); }
int syncfs(int fd) { slow(); return syscall(SYS_syncfs, fd); }
void sync(void) { slow(); syscall(SYS_sync); }
