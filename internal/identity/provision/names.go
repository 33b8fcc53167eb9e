// Package provision makes at an issuer what a fleet needs there: its project,
// roles, apps and machine users, and the account and key of each device. It owns
// what these are called and in what order they are made; the calls are
// package zitadel's. It asks the issuer each time and keeps nothing, so doing
// anything twice changes nothing the second time.
package provision

import "github.com/nationtech/fleetctl/internal/identity/role"

// Names at the issuer. The embedded issuer makes the first three by itself.
const (
	ProjectName  = "fleet"
	CLIApp       = "fleetctl"
	DashboardApp = "fleet-dashboard"
	APIApp       = "fleet-server"

	devicePrefix = "device-"
)

// DeviceUser is what a device's machine user is called; the auth callout takes
// the prefix off again.
func DeviceUser(device string) string { return devicePrefix + device }

// roles of the project, with what people see.
var roles = []struct{ key, display string }{
	{role.Admin, "Fleet administrator"},
	{role.Operator, "Fleet operator"},
	{role.Viewer, "Fleet viewer"},
	{role.Device, "Device"},
	{role.ServiceOperator, "Operator (program)"},
	{role.ServiceAPI, "HTTPS API and dashboard (program)"},
}

// Service is a program of the control plane that has an identity of its own.
type Service struct {
	Name string   // of its key file
	User string   // at the issuer
	Role []string // none for a program that only checks others' tokens
}

// Services are the programs that run apart from each other on Kubernetes.
var Services = []Service{
	{Name: "operator", User: "fleet-operator", Role: []string{role.ServiceOperator}},
	{Name: "callout", User: "fleet-callout"},
	{Name: "dashboard", User: "fleet-dashboard", Role: []string{role.ServiceAPI}},
}
