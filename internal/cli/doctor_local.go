package cli

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// checkMembership: who is in the group of the password file, and who has logged
// in since, are two things.
func checkMembership(name string) finding {
	check := "group " + name
	me, err := user.Current()
	if err != nil {
		return judgeErr(check, fmt.Errorf("look up this user: %w", err), "", "")
	}
	if me.Uid == "0" {
		return finding{Check: check, Status: findingOK, Detail: "root needs none"}
	}
	group, err := user.LookupGroup(name)
	if unknown := user.UnknownGroupError(""); errors.As(err, &unknown) {
		return finding{check, findingMissing, "there is no such group; libvirt brings it", "sudo fleetctl doctor --fix"}
	}
	if err != nil {
		return judgeErr(check, err, "", "")
	}
	member, err1 := me.GroupIds()
	active, err2 := os.Getgroups()
	if err := errors.Join(err1, err2); err != nil {
		return judgeErr(check, fmt.Errorf("look up the groups of %s: %w", me.Username, err), "", "")
	}
	return judgeMembership(check, me.Username, slices.Contains(member, group.Gid), slices.ContainsFunc(active, func(id int) bool { return strconv.Itoa(id) == group.Gid }))
}

func judgeMembership(check, person string, member, active bool) finding {
	name := strings.TrimPrefix(check, "group ")
	switch {
	case active:
		return finding{Check: check, Status: findingOK, Detail: person + " is in it"}
	case member:
		return finding{check, findingMissing, person + " is in it, but logged in before that", "log in again, or: newgrp " + name}
	}
	return finding{check, findingMissing, person + " is not in it", "join it and log in again: sudo usermod -aG " + name + " " + person}
}

// appArmorHelpers are where libvirt's helper lies, which writes the profile of
// each guest; Debian's and Ubuntu's paths, and openSUSE's.
var appArmorHelpers = []string{"/usr/lib/libvirt/virt-aa-helper", "/usr/libexec/libvirt/virt-aa-helper", "/usr/libexec/virt-aa-helper"}

// checkAppArmor: where the kernel enforces profiles, libvirt confines guests
// with its helper, and no guest starts without.
func checkAppArmor(parameter string, helpers []string) finding {
	const check = "AppArmor"
	enabled, err := os.ReadFile(parameter)
	if err != nil || strings.TrimSpace(string(enabled)) != "Y" {
		return finding{Check: check, Status: findingOK, Detail: "is not in force here"}
	}
	for _, helper := range helpers {
		if _, err := os.Stat(helper); err == nil {
			return finding{Check: check, Status: findingOK, Detail: "is in force, and libvirt's helper is there"}
		}
	}
	return finding{check, findingNote, "is in force, and libvirt's helper virt-aa-helper is not there: guests are not confined, or do not start", "install it: apt-get install libvirt-daemon-system · zypper install libvirt-daemon"}
}
