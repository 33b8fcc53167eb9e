package rollup

// Standing is how one device does with all that it is a member of.
type Standing struct {
	Reported bool   // it has said anything at all
	Err      string // what keeps it from working on its manifest; "" when nothing does
	// Warnings are what a person should see to.
	Warnings []string
	// Failed and Pending are deployments, in the order in which they were asked for.
	Failed  []Failing
	Pending []string
}

// Failing is a deployment that failed on a device.
type Failing struct {
	Deployment, Message string
}

// Standing sums up one device. memberOf are all that it is a member of.
func (t *Tracker) Standing(device string, memberOf []string) Standing {
	r := t.reports[device]
	if r == nil {
		return Standing{}
	}
	s := Standing{Reported: true, Err: r.err, Warnings: r.warnings}
	for _, name := range memberOf {
		d := t.deployments[name]
		if d == nil {
			continue
		}
		switch d.members[device] {
		case Failed:
			s.Failed = append(s.Failed, Failing{Deployment: name, Message: r.failure(name).Message})
		case Pending:
			s.Pending = append(s.Pending, name)
		case Succeeded:
		}
	}
	return s
}
