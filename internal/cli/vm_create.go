package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nationtech/fleetctl/assets"
	"github.com/nationtech/fleetctl/cloudinit"
	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/vm"
	"github.com/nationtech/fleetctl/vm/libvirt"
)

type vmCreateOptions struct {
	name     string
	arch     string
	image    string
	sha256   string
	cpus     int
	memory   string
	disk     string
	user     string
	sshKey   string
	network  string
	accel    string
	firmware string
	wait     string
	timeout  time.Duration
	userData string
	packages []string
	timezone string
	password bool
}

func newVMCreateCmd(v *vmFactory) *cobra.Command {
	o := &vmCreateOptions{}
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make and start a virtual machine, and wait until it answers",
		Long: `Makes a virtual machine from a cloud image and waits until its sshd answers. A
machine of that name with the same properties is success, so that the command
can be run again after it was interrupted.`,
		Example: `  fleetctl vm create demo
  fleetctl vm create pi --arch aarch64 --memory 1GiB
  fleetctl vm create demo --image ./debian.qcow2 --wait cloud-init
  fleetctl vm create demo --connect qemu+ssh://me@server/system`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return runVMCreate(cmd.Context(), v, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.arch, "arch", string(vm.HostArch()), "processor `architecture`: x86_64 or aarch64")
	flags.StringVar(&o.image, "image", assets.DefaultImage, "cloud image: a `name` of fleetctl image list, a path, or a URL")
	flags.StringVar(&o.sha256, "sha256", "", "`digest` that the image must have; needed for a URL")
	flags.IntVar(&o.cpus, "cpus", vm.DefaultCPUs, "`number` of processors")
	flags.StringVar(&o.memory, "memory", "2GiB", "memory `size`")
	flags.StringVar(&o.disk, "disk", "16GiB", "disk `size`; the file grows as it is used")
	flags.StringVar(&o.user, "user", vm.DefaultUser, "login `name` that is made, with sudo")
	flags.StringVar(&o.sshKey, "ssh-key", "", "private key `file` to log in with (default: one that fleetctl makes)")
	flags.StringVar(&o.network, "network", vm.DefaultNetwork, "libvirt network `name`")
	flags.StringVar(&o.accel, "accel", string(vm.AccelAuto), "`how` guests run: auto, kvm or tcg (emulation)")
	flags.StringVar(&o.firmware, "firmware", string(vm.FirmwareAuto), "`what` starts the guest: auto, bios or uefi")
	flags.StringVar(&o.wait, "wait", string(vm.WaitSSH), "`state` to wait for: ssh, lease, cloud-init or none")
	flags.DurationVar(&o.timeout, "timeout", 0, "how `long` to wait (default 5m with KVM, 30m when emulated)")
	flags.StringVar(&o.userData, "user-data", "", "cloud-config `file` to lay over ours")
	flags.StringSliceVar(&o.packages, "package", nil, "`package` to install at first boot; repeatable")
	flags.StringVar(&o.timezone, "timezone", "", "time `zone`, such as Europe/Paris")
	flags.BoolVar(&o.password, "password-stdin", false, "read a password from stdin, and let SSH accept it")
	mustComplete(cmd, "arch", "x86_64", "aarch64")
	mustComplete(cmd, "accel", "auto", "kvm", "tcg")
	mustComplete(cmd, "firmware", "auto", "bios", "uefi")
	mustComplete(cmd, "wait", "ssh", "lease", "cloud-init", "none")
	return cmd
}

// vmCreateResult is what scripts get.
type vmCreateResult struct {
	SchemaVersion int     `json:"schemaVersion"`
	Changed       bool    `json:"changed"` // false: it was there already
	Seconds       float64 `json:"seconds"`
	vm.VM
}

func runVMCreate(ctx context.Context, v *vmFactory, o *vmCreateOptions) error {
	start := time.Now()
	spec, key, err := o.spec(ctx, v)
	if err != nil {
		return err
	}
	h, err := v.hypervisor(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	created, err := h.Create(ctx, spec)
	if err != nil {
		return err
	}
	machine, err := o.waitFor(ctx, v, h, key)
	if err != nil {
		return err
	}
	result := vmCreateResult{1, created, time.Since(start).Round(time.Millisecond).Seconds(), machine}
	return v.Print(result, func(w io.Writer) error {
		verb := "is there already"
		if created {
			verb = fmt.Sprintf("made in %.0f s", result.Seconds)
		}
		fmt.Fprintf(w, "virtual machine %s %s: %s, %s, %d CPUs, %d MiB, %s\n", machine.Name, verb, machine.Arch, machine.Accel, machine.CPUs, machine.MemoryMiB, printable(machine.Address))
		fmt.Fprintf(w, "\nnext:\n  fleetctl vm ssh %s\n", machine.Name)
		if machine.Address != "" {
			fmt.Fprintf(w, "  fleetctl onboard %s@%s --device-id %s --ssh-key %s\n", machine.User, machine.Address, machine.Name, key.Path)
		}
		return nil
	})
}

// waits lists the values of --wait.
var waits = []vm.WaitFor{vm.WaitSSH, vm.WaitLease, vm.WaitCloudInit, vm.WaitNone}

// spec turns the flags into a machine, its image verified.
func (o *vmCreateOptions) spec(ctx context.Context, v *vmFactory) (vm.Spec, assets.SSHKey, error) {
	fail := func(err error) (vm.Spec, assets.SSHKey, error) { return vm.Spec{}, assets.SSHKey{}, err }
	if err := vm.CheckName(o.name); err != nil {
		return fail(err)
	}
	memory, err := parseSize(o.memory, mib)
	if err != nil {
		return fail(usageError(fmt.Errorf("--memory: %w", err), "for example: --memory 2GiB"))
	}
	disk, err := parseSize(o.disk, gib)
	if err != nil {
		return fail(usageError(fmt.Errorf("--disk: %w", err), "for example: --disk 16GiB"))
	}
	if !contains(waits, vm.WaitFor(o.wait)) {
		return fail(usageError(fmt.Errorf("--wait %s is not known", o.wait), "use --wait ssh, lease, cloud-init or none"))
	}
	var extra []byte
	if o.userData != "" {
		if extra, err = os.ReadFile(o.userData); err != nil {
			return fail(fmt.Errorf("read --user-data: %w", err))
		}
	}
	key, err := o.key(v)
	if err != nil {
		return fail(err)
	}
	image, err := v.image(ctx, assets.Ref{Name: o.image, Arch: o.arch, SHA256: o.sha256})
	if err != nil {
		return fail(err)
	}
	password, err := o.passwordHash(v.In)
	if err != nil {
		return fail(err)
	}
	private, public, err := assets.NewSSHKey("")
	if err != nil {
		return fail(err)
	}
	spec := vm.Spec{
		Name: o.name, Arch: vm.Arch(o.arch), CPUs: o.cpus, MemoryMiB: int(memory / mib), DiskGiB: int((disk + gib - 1) / gib),
		Image:   vm.Image{Name: image.Name, Path: image.Path, SHA256: image.SHA256, Format: image.Format, Size: image.Size},
		Network: o.network, Accel: vm.Accel(o.accel), Firmware: vm.Firmware(o.firmware),
		FirstBoot: vm.FirstBoot{
			User: o.user, AuthorizedKeys: []string{key.Authorized},
			HostKeyPrivate: vm.Secret(private), HostKeyPublic: public,
			PasswordHash: password,
			Packages:     o.packages, Timezone: o.timezone, Extra: extra,
		},
	}.WithDefaults()
	return spec, key, spec.Validate()
}

func (o *vmCreateOptions) key(v *vmFactory) (assets.SSHKey, error) {
	if o.sshKey != "" {
		key, err := assets.LoadSSHKey(strings.TrimSuffix(o.sshKey, ".pub"))
		return key, hint.Wrap(err, "name a private key file with --ssh-key, or leave it out and fleetctl makes one")
	}
	path, err := v.vmKeyPath()
	if err != nil {
		return assets.SSHKey{}, err
	}
	return assets.EnsureSSHKey(path, "fleetctl")
}

// passwordHash reads one line; what is kept of it is its hash.
func (o *vmCreateOptions) passwordHash(in io.Reader) (vm.Secret, error) {
	if !o.password {
		return "", nil
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read --password-stdin: %w", err)
	}
	password := strings.TrimRight(line, "\r\n")
	if password == "" {
		return "", usageError(errors.New("--password-stdin: the first line is empty"), "for example: fleetctl vm create NAME --password-stdin < FILE")
	}
	hash, err := cloudinit.HashPassword(password)
	return vm.Secret(hash), err
}

// waitFor waits as long as the machine's accelerator needs.
func (o *vmCreateOptions) waitFor(ctx context.Context, v *vmFactory, h *libvirt.Hypervisor, key assets.SSHKey) (vm.VM, error) {
	machine, err := h.Get(ctx, o.name)
	if err != nil {
		return vm.VM{}, err
	}
	timeout := o.timeout
	if timeout == 0 {
		timeout = vm.Timeout(machine.Accel)
	}
	return v.waitVM(ctx, h, o.name, vm.WaitFor(o.wait), timeout, key.Path)
}
