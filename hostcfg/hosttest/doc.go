// Package hosttest holds what tests of host configuration share: a scratch
// host on which scripts really run, a decorator that refuses writes, a shell
// that is killed at a chosen command, and the suite that every resource
// passes.
//
// A scratch host is a directory tree with /etc, /var, /home, /run and
// /usr/local of its own, entered with chroot in a private mount namespace;
// the programs are this machine's. It is real for files, accounts and
// everything else that lives in those directories. What needs an init or a
// foreign package manager is played by small programs there, written from
// what the real ones are documented to do: good for tests of our logic, no proof of
// theirs. That proof comes from real hosts (build tag hosts).
package hosttest
