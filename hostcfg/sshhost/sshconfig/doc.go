// Package sshconfig says what OpenSSH client configuration files mean for one
// host, in agreement with ssh -G (OpenSSH 9.2, readconf.c).
//
// It owns the files' syntax, Host, Match and Include, the order in which
// values win, and tokens in values. It knows the names of no more options
// than that takes: what is done with a value is the caller's affair.
// CanonicalizeHostname, which asks the DNS, and Match localnetwork, which
// OpenSSH has since 9.4, are refused with an error that says so.
package sshconfig
