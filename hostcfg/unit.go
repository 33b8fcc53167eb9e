package hostcfg

import "errors"

// SystemUnit is a unit of the host's systemd.
type SystemUnit struct {
	Name    string // with its suffix, such as fleet-agent.service
	Content string // of /etc/systemd/system/NAME; "" when a package brings the unit
	Enable  Switch
	Run     Switch // On starts it, and restarts it when needed; Off stops it
	// RestartOn are IDs of resources whose change restarts the unit, if it runs.
	RestartOn []string
	// Absent stops and disables the unit and removes its file.
	Absent bool
}

// UserUnit is a unit of one user's systemd, which has to run (see Linger).
type UserUnit struct {
	User string
	Name string
	// Content goes to /etc/systemd/user/NAME: the directory is root's, so that
	// the user cannot change the unit.
	Content   string
	Enable    Switch
	Run       Switch
	RestartOn []string
	Absent    bool
}

// ID is "unit:NAME".
func (u SystemUnit) ID() string { return "unit:" + u.Name }

// ID is "user-unit:USER/NAME".
func (u UserUnit) ID() string { return "user-unit:" + u.User + "/" + u.Name }

func (u SystemUnit) wish() unitWish {
	return unitWish{unitTarget{unit: u.Name}, u.Content, u.Enable, u.Run, u.RestartOn, u.Absent}
}

func (u UserUnit) wish() unitWish {
	return unitWish{unitTarget{unit: u.Name, user: u.User}, u.Content, u.Enable, u.Run, u.RestartOn, u.Absent}
}

func (u SystemUnit) prepare() (Resource, error) { return u, u.wish().check() }

func (u UserUnit) prepare() (Resource, error) {
	return u, errors.Join(checkAccount("user", u.User), u.wish().check())
}

func (u SystemUnit) after() []string { return u.RestartOn }
func (u UserUnit) after() []string   { return u.RestartOn }

func (u SystemUnit) claims() []claim { return u.wish().claims() }
func (u UserUnit) claims() []claim   { return u.wish().claims() }

func (u SystemUnit) probe(q *query) { u.wish().probe(q) }

func (u UserUnit) probe(q *query) {
	q.add(keyPasswd, u.User)
	u.wish().probe(q)
}

func (u SystemUnit) plan(s *state, st *Step) error { return u.wish().plan(s.units[u.Name], s, st) }

func (u UserUnit) plan(s *state, st *Step) error {
	return u.wish().plan(s.userUnit[u.User][u.Name], s, st)
}
