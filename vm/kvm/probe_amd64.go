package kvm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From linux/kvm.h; _IO, _IOR and _IOW numbers of type 0xAE.
const (
	ioGetAPIVersion       = 0xAE00
	ioCreateVM            = 0xAE01
	ioGetVCPUMmapSize     = 0xAE04
	ioCreateVCPU          = 0xAE41
	ioSetUserMemoryRegion = 0x4020AE46
	ioSetTSSAddr          = 0xAE47
	ioRun                 = 0xAE80
	ioSetRegs             = 0x4090AE82
	ioGetSregs            = 0x8138AE83
	ioSetSregs            = 0x4138AE84

	exitIO = 2

	apiVersion = 12
)

// Guest memory: page tables at 0x1000–0x3fff, the program at 0x4000.
const (
	memorySize = 2 << 20
	tables     = 0x1000
	entry      = 0x4000
	port       = 0xF1 // written to at the end
	token      = 0x2A
)

// program uses an SSE register, counts down from 50 million in 64-bit mode, and
// writes token to port. Hardware takes some 20 ms; a KVM that interprets
// instructions instead does not know the first, or takes minutes for the rest.
var program = []byte{
	0x66, 0x0F, 0xEF, 0xC0, // pxor xmm0, xmm0
	0xB9, 0x80, 0xF0, 0xFA, 0x02, // mov ecx, 50000000
	0xFF, 0xC9, // dec ecx
	0x75, 0xFC, // jnz -4
	0xB0, token, // mov al, token
	0xE6, port, // out port, al
	0xF4, // hlt
}

type regs struct {
	rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp uint64
	r8, r9, r10, r11, r12, r13, r14, r15   uint64
	rip, rflags                            uint64
}

type segment struct {
	base                                                    uint64
	limit                                                   uint32
	selector                                                uint16
	kind, present, dpl, db, s, l, g, avl, unusable, padding uint8
}

type descriptorTable struct {
	base    uint64
	limit   uint16
	padding [3]uint16
}

type sregs struct {
	cs, ds, es, fs, gs, ss, tr, ldt segment
	gdt, idt                        descriptorTable
	cr0, cr2, cr3, cr4, cr8         uint64
	efer, apicBase                  uint64
	interrupts                      [4]uint64
}

type memoryRegion struct {
	slot, flags         uint32
	guest, size, memory uint64
}

func ioctl(fd int, request uintptr, argument uintptr) (int, error) {
	result, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, argument)
	if errno != 0 {
		return 0, errno
	}
	return int(result), nil
}

// probe makes a machine of one processor, runs program in it, and looks at what
// it did.
func probe(ctx context.Context) error {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	dev := int(device.Fd())
	if version, err := ioctl(dev, ioGetAPIVersion, 0); err != nil || version != apiVersion {
		return fmt.Errorf("/dev/kvm has interface version %d, want %d", version, apiVersion)
	}
	machine, err := ioctl(dev, ioCreateVM, 0)
	if err != nil {
		return fmt.Errorf("KVM makes no machine: %w", err)
	}
	defer unix.Close(machine)
	// Intel's hardware wants three pages for its own use, below 4 GiB.
	if _, err := ioctl(machine, ioSetTSSAddr, 0xFFFBD000); err != nil {
		return fmt.Errorf("KVM makes no machine: %w", err)
	}
	memory, err := unix.Mmap(-1, 0, memorySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("map the guest's memory: %w", err)
	}
	defer unix.Munmap(memory)
	load(memory)
	region := memoryRegion{size: memorySize, memory: uint64(uintptr(unsafe.Pointer(&memory[0])))}
	if _, err := ioctl(machine, ioSetUserMemoryRegion, uintptr(unsafe.Pointer(&region))); err != nil {
		return fmt.Errorf("KVM takes no memory: %w", err)
	}
	cpu, err := ioctl(machine, ioCreateVCPU, 0)
	if err != nil {
		return fmt.Errorf("KVM makes no processor: %w", err)
	}
	defer unix.Close(cpu)
	size, err := ioctl(dev, ioGetVCPUMmapSize, 0)
	if err != nil {
		return fmt.Errorf("KVM makes no processor: %w", err)
	}
	state, err := unix.Mmap(cpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the processor's state: %w", err)
	}
	defer unix.Munmap(state)
	if err := longMode(cpu); err != nil {
		return err
	}
	return run(ctx, cpu, state)
}

// load puts program and identity page tables for 2 MiB into the memory.
func load(memory []byte) {
	const presentWritable, large = 3, 1 << 7
	binary.LittleEndian.PutUint64(memory[tables:], tables+0x1000|presentWritable)
	binary.LittleEndian.PutUint64(memory[tables+0x1000:], tables+0x2000|presentWritable)
	binary.LittleEndian.PutUint64(memory[tables+0x2000:], 0|presentWritable|large)
	copy(memory[entry:], program)
}

// longMode sets the processor up in 64-bit mode at the program.
func longMode(cpu int) error {
	var s sregs
	if _, err := ioctl(cpu, ioGetSregs, uintptr(unsafe.Pointer(&s))); err != nil {
		return fmt.Errorf("KVM's processor has no registers: %w", err)
	}
	s.cr0 = 1 | 1<<1 | 1<<4 | 1<<31 // protection, coprocessor, its type, paging
	s.cr3 = tables
	s.cr4 = 1<<5 | 1<<9 | 1<<10 // PAE, SSE
	s.efer = 1<<8 | 1<<10       // long mode, enabled and active
	code := segment{limit: 0xFFFFFFFF, selector: 8, kind: 11, present: 1, s: 1, l: 1, g: 1}
	data := code
	data.kind, data.selector, data.l, data.db = 3, 16, 0, 1
	s.cs, s.ds, s.es, s.fs, s.gs, s.ss = code, data, data, data, data, data
	if _, err := ioctl(cpu, ioSetSregs, uintptr(unsafe.Pointer(&s))); err != nil {
		return fmt.Errorf("KVM's processor takes no 64-bit mode: %w", err)
	}
	r := regs{rip: entry, rflags: 2, rsp: entry}
	if _, err := ioctl(cpu, ioSetRegs, uintptr(unsafe.Pointer(&r))); err != nil {
		return fmt.Errorf("KVM's processor takes no registers: %w", err)
	}
	return nil
}

// run enters the guest until it wrote the token. KVM_RUN returns only when the
// guest does something or a signal arrives, so that ctx sends one.
func run(ctx context.Context, cpu int, state []byte) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread := unix.Gettid()
	// The runtime's own preemption signal: it is handled, and does nothing.
	stop := context.AfterFunc(ctx, func() { _ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG) })
	defer stop()
	for {
		_, err := ioctl(cpu, ioRun, 0)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return fmt.Errorf("KVM runs no guest: %w", err)
		}
		// struct kvm_run: exit_reason at 8; for port access direction, size and
		// port from 32 on, and the offset of the data at 40.
		reason := binary.NativeEndian.Uint32(state[8:])
		if reason != exitIO {
			return fmt.Errorf("/dev/kvm opens, but cannot run a guest's ordinary instructions (exit reason %d)", reason)
		}
		at := binary.NativeEndian.Uint64(state[40:])
		if binary.NativeEndian.Uint16(state[34:]) != port || at >= uint64(len(state)) || state[at] != token {
			return errors.New("KVM ran a guest wrongly (unexpected output)")
		}
		return nil
	}
}
