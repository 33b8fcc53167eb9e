package hostcfg

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nationtech/fleetctl/internal/hint"
)

// KernelArg is a flag on a Raspberry Pi's kernel command line, such as
// "cgroup_enable=memory". It takes effect with the next boot: see Reboot.
type KernelArg struct {
	Arg string
	// Path is the command line's file; "" is the first of
	// /boot/firmware/cmdline.txt and /boot/cmdline.txt that exists.
	Path string
}

var commandLineFiles = []string{"/boot/firmware/cmdline.txt", "/boot/cmdline.txt"}

// ID is "kernel-arg:ARG".
func (k KernelArg) ID() string { return "kernel-arg:" + k.Arg }

func (k KernelArg) prepare() (Resource, error) {
	err := checkWord("kernel argument", k.Arg, "_-.=,:/")
	if k.Path != "" {
		err = errors.Join(err, checkPath(k.Path))
	}
	return k, err
}

func (k KernelArg) claims() []claim {
	var c []claim
	for _, p := range k.files() {
		c = append(c, claim{path: p, part: true})
	}
	return c
}

func (k KernelArg) files() []string {
	if k.Path != "" {
		return []string{k.Path}
	}
	return commandLineFiles
}

func (k KernelArg) probe(q *query) {
	for _, p := range k.files() {
		q.file(p, "")
	}
}

// active says whether the running kernel was started with the argument.
func (k KernelArg) active(f *Facts) bool {
	return slices.Contains(strings.Fields(f.CommandLine), k.Arg)
}

func (k KernelArg) plan(s *state, st *Step) error {
	for _, p := range k.files() {
		cur := s.paths[p]
		if cur == nil || cur.typ != "file" || !cur.fetched {
			continue
		}
		text := addArg(string(cur.content), k.Arg)
		if text == string(cur.content) {
			return nil
		}
		content := []byte(text)
		w := fileWrite{path: p, owner: "root", group: "root", mode: 0o755, content: content,
			size: int64(len(content)), sha256: hashOf(content), keepMeta: true}
		if _, err := w.plan(s, st); err != nil {
			return err
		}
		s.writes(&w)
		return nil
	}
	if k.active(s.facts) {
		return nil
	}
	return hint.New(fmt.Sprintf("no kernel command line found: %s", strings.Join(k.files(), " and ")+" are missing"),
		fmt.Sprintf("add %s to the kernel's command line by hand (GRUB: GRUB_CMDLINE_LINUX), then reboot", k.Arg))
}

// addArg appends an argument to the one line that the firmware reads, in
// place of an earlier setting that says the opposite.
func addArg(text, arg string) string {
	first, rest, _ := strings.Cut(text, "\n")
	args := strings.Fields(first)
	if slices.Contains(args, arg) {
		return text
	}
	if name, controller, ok := strings.Cut(arg, "="); ok && name == "cgroup_enable" {
		args = slices.DeleteFunc(args, func(a string) bool { return a == "cgroup_disable="+controller })
	}
	return strings.Join(append(args, arg), " ") + "\n" + rest
}
