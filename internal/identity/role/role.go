// Package role names the roles that an issuer grants, and says which of people's
// includes which. The roles of devices and of the control plane's own programs
// are no person's, and include nothing.
package role

import "slices"

// The roles, as the issuer spells them.
const (
	Admin    = "fleet-admin"    // enrols and revokes devices, reads the audit log
	Operator = "fleet-operator" // changes deployments, sends commands
	Viewer   = "fleet-viewer"   // looks
	Device   = "fleet-device"

	ServiceOperator = "fleet-service-operator" // the operator, as a program of its own
	ServiceAPI      = "fleet-service-api"      // HTTPS API and dashboard, likewise
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
