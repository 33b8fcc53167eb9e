package issuer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/issuer/store"
)

const minPassword = 12 // characters

// A person's name is not a device's: machine users are called device-….
var personName = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,62}$`)

// NewPerson is a user to add.
type NewPerson struct {
	Username string
	Name     string // "" for the username
	Password string
	Roles    []string
}

// Person is a user as listed.
type Person struct {
	ID       string    `json:"id"`
	Username string    `json:"username"`
	Name     string    `json:"name"`
	Active   bool      `json:"active"`
	Roles    []string  `json:"roles"`
	Created  time.Time `json:"created"`
}

// AddPerson stores a person with a password and roles, and returns the id.
func AddPerson(ctx context.Context, db *store.Store, project string, p NewPerson) (string, error) {
	if !personName.MatchString(p.Username) || strings.HasPrefix(p.Username, DevicePrefix) {
		return "", hint.WithCode(hint.New(fmt.Sprintf("%q is not a user name", p.Username),
			"use small letters, digits and . _ @ + -, at most 63; device-… is for devices"), hint.CodeUsage)
	}
	for _, role := range p.Roles {
		if !slices.Contains([]string{RoleAdmin, RoleOperator, RoleViewer}, role) {
			return "", hint.WithCode(hint.New(fmt.Sprintf("%q is not a role of people", role),
				fmt.Sprintf("use %s, %s or %s", RoleAdmin, RoleOperator, RoleViewer)), hint.CodeUsage)
		}
	}
	hash, err := newPassword(p.Password)
	if err != nil {
		return "", err
	}
	if p.Name == "" {
		p.Name = p.Username
	}
	id, err := db.AddUser(ctx, store.User{Username: p.Username, Kind: store.Human, Name: p.Name, Password: hash, Active: true})
	if errors.Is(err, store.ErrExists) {
		return "", hint.Wrap(err, "see: fleet-server users list")
	}
	if err != nil || len(p.Roles) == 0 {
		return id, err
	}
	_, err = db.AddGrant(ctx, id, project, p.Roles)
	return id, err
}

func newPassword(password string) (string, error) {
	if utf8.RuneCountInString(password) < minPassword || len(password) > maxPassword {
		return "", hint.WithCode(hint.New("this password is too short or too long",
			fmt.Sprintf("use %d characters or more, at most %d bytes", minPassword, maxPassword)), hint.CodeUsage)
	}
	return hashPassword(password), nil
}

// People is the users of a server, whether it runs or not: `fleet-server users`.
type People struct {
	dir   string
	store *store.Store
}

// OpenPeople opens the issuer's database in dir, which a first start made.
func OpenPeople(ctx context.Context, dir string) (*People, error) {
	if _, err := os.Stat(filepath.Join(dir, "issuer.db")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, hint.New("no fleet-server with an issuer has been started in "+filepath.Dir(dir),
				"start it once with: fleet-server all, or name its data directory with --data-dir DIR")
		}
		return nil, fmt.Errorf("look for the issuer's database: %w", err)
	}
	db, err := store.Open(ctx, dir, time.Now)
	if err != nil {
		return nil, err
	}
	return &People{dir: dir, store: db}, nil
}

// Close closes the database.
func (p *People) Close() error { return p.store.Close() }

// Add adds a person with roles in the fleet's project.
func (p *People) Add(ctx context.Context, person NewPerson) (string, error) {
	project, err := ensureProject(ctx, p.store)
	if err != nil {
		return "", err
	}
	return AddPerson(ctx, p.store, project, person)
}

// List lists people; machines are listed by `fleetctl get devices`.
func (p *People) List(ctx context.Context) ([]Person, error) {
	users, err := p.store.Users(ctx)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	grants, err := p.store.Grants(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list roles: %w", err)
	}
	people := []Person{}
	for _, u := range users {
		if u.Kind != store.Human {
			continue
		}
		person := Person{ID: u.ID, Username: u.Username, Name: u.Name, Active: u.Active, Created: u.Created, Roles: []string{}}
		for _, g := range grants {
			if g.User == u.ID {
				person.Roles = append(person.Roles, g.Roles...)
			}
		}
		people = append(people, person)
	}
	return people, nil
}

// SetPassword replaces a person's password and ends all sessions.
func (p *People) SetPassword(ctx context.Context, username, password string) error {
	user, err := p.person(ctx, username)
	if err != nil {
		return err
	}
	hash, err := newPassword(password)
	if err != nil {
		return err
	}
	if err := p.store.SetPassword(ctx, user.ID, hash); err != nil {
		return fmt.Errorf("set password of %s: %w", username, err)
	}
	return p.forgetFirstPassword(username)
}

// Delete removes a person; the last administrator stays.
func (p *People) Delete(ctx context.Context, username string) error {
	user, err := p.person(ctx, username)
	if err != nil {
		return err
	}
	people, err := p.List(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(people, func(o Person) bool {
		return o.ID != user.ID && o.Active && slices.Contains(o.Roles, RoleAdmin)
	}) {
		return hint.New(username+" is the last administrator",
			"add another first: fleet-server users add NAME --role "+RoleAdmin)
	}
	if err := p.store.DeleteUser(ctx, user.ID); err != nil {
		return fmt.Errorf("delete user %s: %w", username, err)
	}
	return p.forgetFirstPassword(username)
}

func (p *People) person(ctx context.Context, username string) (store.User, error) {
	user, err := p.store.UserByName(ctx, username)
	if errors.Is(err, store.ErrNotFound) || err == nil && user.Kind != store.Human {
		return user, hint.New(fmt.Sprintf("there is no user %q", username), "see: fleet-server users list")
	}
	if err != nil {
		return user, fmt.Errorf("look up user %s: %w", username, err)
	}
	return user, nil
}

func (p *People) forgetFirstPassword(username string) error {
	if username != adminName {
		return nil
	}
	if err := os.Remove(filepath.Join(p.dir, adminPasswordName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the first password: %w", err)
	}
	return nil
}
