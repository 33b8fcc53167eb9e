package callout

import (
	"github.com/nationtech/fleetctl/internal/broker/accounts"
	"github.com/nationtech/fleetctl/internal/identity/role"
)

// Grant says what a role of the issuer is on NATS: a device, or a part of the
// control plane (accounts.ByToken).
type Grant struct {
	Role   string // as the issuer spells it
	Device bool
	Part   string
}

// DefaultGrants is the role table, the strongest role first. People only read,
// and that in an account where the answer to a read cannot be aimed at a key;
// what they change goes over the HTTPS API and Kubernetes.
func DefaultGrants() []Grant {
	return []Grant{
		{Role: role.Admin, Part: accounts.RoleAdmin},
		{Role: role.ServiceOperator, Part: accounts.RoleOperator},
		{Role: role.ServiceAPI, Part: accounts.RoleAPI},
		{Role: role.Operator, Part: accounts.RoleViewer},
		{Role: role.Viewer, Part: accounts.RoleViewer},
		{Role: role.Device, Device: true},
	}
}
