// Package role names the roles that an issuer grants people, and says which
// includes which. Devices' role is no person's, and includes nothing.
package role

import "slices"

// The roles, as the issuer spells them.
const (
	Admin    = "fleet-admin"    // enrols and revokes devices, reads the audit log
	Operator = "fleet-operator" // changes deployments, sends commands
	Viewer   = "fleet-viewer"   // looks
	Device   = "fleet-device"
)

// ladder is each role after the ones that include it.
var ladder = []string{Admin, Operator, Viewer}

// Allows says whether someone with the roles of have may do what wants want.
func Allows(have []string, want string) bool {
	level := slices.Index(ladder, want)
	return level >= 0 && slices.ContainsFunc(ladder[:level+1], func(r string) bool { return slices.Contains(have, r) })
}

// OfPeople gives those of have that a person can have, the strongest first.
func OfPeople(have []string) []string {
	return slices.DeleteFunc(slices.Clone(ladder), func(r string) bool { return !slices.Contains(have, r) })
}
