package role_test

import (
	"testing"

	"github.com/nationtech/fleetctl/internal/identity/role"
)

func TestAllows(t *testing.T) {
	for _, tt := range []struct {
		have []string
		want string
		ok   bool
	}{
		{[]string{role.Admin}, role.Viewer, true},
		{[]string{role.Operator}, role.Operator, true},
		{[]string{role.Viewer}, role.Operator, false},
		{[]string{role.Viewer, role.Operator}, role.Operator, true},
		{[]string{role.Operator}, role.Admin, false},
		{[]string{role.Device}, role.Viewer, false},
		{[]string{role.Device}, role.Device, false}, // nothing here is a device's to do
		{[]string{"fleet-Admin", "", "admin"}, role.Viewer, false},
		{nil, role.Viewer, false},
		{[]string{role.Admin}, "", false},
	} {
		if got := role.Allows(tt.have, tt.want); got != tt.ok {
			t.Errorf("%v wants %q: %v", tt.have, tt.want, got)
		}
	}
}
