// Package testhost starts real throw-away Debian hosts for tests: systemd as
// PID 1 in a container of systemd-nspawn, with sshd, logind, lingering, sudo
// and rootless Podman, in well under a second once the template is built.
//
// It owns making, reaching, disturbing and removing such hosts. What is asked
// of them is the affair of the tests that use it. It needs root and Debian's
// systemd-container, mmdebstrap and iproute2; Start skips a test loudly where
// these are missing.
//
// # How to
//
// Put such tests in files of their own with the build tag "hosts" and run them
// with: go test -tags hosts ./yourpackage/
//
//	//go:build hosts
//
//	func TestOnboard(t *testing.T) {
//		h := testhost.Start(t, testhost.Options{Suite: "trixie", Podman: true})
//
//		h.SSHAddr()                 // "10.213.0.2:22"; users "root" and "pi"
//		h.KeyFile()                 // private key of both; pi has sudo without password
//		h.KnownHostsFile()          // the host's real key, for strict checking
//		h.Sh(t, "systemctl is-active ssh")         // as root, not over SSH; fails the test on an error
//		h.Run(ctx, "exit 3")        // the same with stdout, stderr and exit code apart
//		h.Root() + "/etc/passwd"    // the host's files, seen from outside
//		h.Dial(ctx, "tcp", "127.0.0.1:8080") // from inside the host's network
//
//		h.Reboot(t)                 // and wait for sshd; a reboot from inside works as well
//		h.Kill(t); h.PowerOn(t)     // power cut, and back
//		h.NetworkDown(t); h.NetworkUp(t)
//	}
//
// All hosts of a machine and its root namespace share one bridge, as on a LAN:
// a server that a test opens on HarnessIP (use port 0) is reached by every
// host, hosts reach each other, and the test reaches h.IP(). There is no DNS
// and no route to anywhere else. apt works: a proxy that lets through nothing
// but GET and HEAD to the machine's own package mirrors runs for as long as
// the host does, and the host's apt is configured to use it.
//
// Images come from [github.com/nationtech/fleetctl/internal/testhost/registry]:
//
//	reg := registry.Start(t, testhost.HarnessIP+":0")
//	ref := registry.PushApp(t, reg, "hello", "v1")  // "10.213.0.1:40123/hello:v1", plain HTTP, serves on 8080
//
// That a host takes part in other tests at the same time is safe: addresses,
// cgroups and names come from a table under a lock. What a killed test binary
// leaves behind is collected by the next Start.
package testhost
