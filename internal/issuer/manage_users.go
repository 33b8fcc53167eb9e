package issuer

import (
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

const typeMachine = "TYPE_MACHINE"

var machineName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,79}$`)

func (m *management) addMachine(c *call) (any, error) {
	var in struct {
		UserName    string `json:"userName"`
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	if !machineName.MatchString(in.UserName) {
		return nil, invalid("userName %q: use small letters, digits and -, at most 80", in.UserName)
	}
	if len(in.Name) > 200 || len(in.Description) > 500 {
		return nil, invalid("name or description is too long")
	}
	id, err := c.db.AddUser(c.Context(), store.User{
		Username: in.UserName, Kind: store.Machine, Name: cmp.Or(in.Name, in.UserName), Description: in.Description, Active: true,
	})
	return map[string]any{"userId": id, "details": m.details(m.storage.now().UTC())}, err
}

func (m *management) searchUsers(c *call) (any, error) {
	var in struct {
		Query   page `json:"query"`
		Queries []struct {
			UserNameQuery *struct {
				UserName string `json:"userName"`
				Method   string `json:"method"`
			} `json:"userNameQuery"`
			TypeQuery *struct {
				Type string `json:"type"`
			} `json:"typeQuery"`
		} `json:"queries"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	users, err := c.db.Users(c.Context())
	if err != nil {
		return nil, err
	}
	return paged(m, in.Query, users, func(u store.User) bool {
		for _, q := range in.Queries {
			if q.UserNameQuery != nil && !(&text{q.UserNameQuery.UserName, q.UserNameQuery.Method}).matches(u.Username) {
				return false
			}
			if q.TypeQuery != nil && (q.TypeQuery.Type == typeMachine) != (u.Kind == store.Machine) {
				return false
			}
		}
		return true
	}, m.showUser), nil
}

func (m *management) showUser(u store.User) any {
	state := "USER_STATE_ACTIVE"
	if !u.Active {
		state = "USER_STATE_INACTIVE"
	}
	out := map[string]any{
		"id": u.ID, "userName": u.Username, "state": state, "details": m.details(u.Created),
		"loginNames": []string{u.Username}, "preferredLoginName": u.Username,
	}
	if u.Kind == store.Machine {
		out["machine"] = map[string]any{"name": u.Name, "description": u.Description, "accessTokenType": "ACCESS_TOKEN_TYPE_JWT"}
	} else {
		out["human"] = map[string]any{"profile": map[string]any{"displayName": u.Name}}
	}
	return out
}

func (m *management) user(c *call) (any, error) {
	u, err := c.db.User(c.Context(), c.PathValue("user"))
	return map[string]any{"user": m.showUser(u)}, err
}

// machine finds the user of a call that is for machines only: a person's
// account cannot be taken over, or away, with a key to this API.
func (m *management) machine(c *call) (store.User, error) {
	u, err := c.db.User(c.Context(), c.PathValue("user"))
	if err == nil && u.Kind != store.Machine {
		return u, &apiError{codePermissionDenied, "this user is a person: see fleet-server users"}
	}
	return u, err
}

func (m *management) deleteUser(c *call) (any, error) {
	u, err := m.machine(c)
	if err != nil {
		return nil, err
	}
	return m.changed(), c.db.DeleteUser(c.Context(), u.ID)
}

func (m *management) deactivate(c *call) (any, error) { return m.setActive(c, false) }
func (m *management) reactivate(c *call) (any, error) { return m.setActive(c, true) }

func (m *management) setActive(c *call, active bool) (any, error) {
	u, err := m.machine(c)
	if err != nil {
		return nil, err
	}
	return m.changed(), c.db.SetActive(c.Context(), u.ID, active)
}

const minKeyBits, maxKeyBits = 2048, 4096

// addKey registers a public key. Unlike Zitadel this issuer never makes the
// pair: the private half is to be made where it is used.
func (m *management) addKey(c *call) (any, error) {
	var in struct {
		Type           string    `json:"type"`
		ExpirationDate time.Time `json:"expirationDate"`
		PublicKey      []byte    `json:"publicKey"` // PEM, in base64
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	u, err := m.machine(c)
	if err != nil {
		return nil, err
	}
	der, err := publicDER(in.PublicKey)
	if err != nil {
		return nil, err
	}
	if !in.ExpirationDate.IsZero() && !in.ExpirationDate.After(m.storage.now()) {
		return nil, invalid("expirationDate is over")
	}
	id, err := c.db.AddKey(c.Context(), u.ID, der, in.ExpirationDate)
	if err != nil {
		return nil, err
	}
	info, err := json.Marshal(map[string]string{"type": "serviceaccount", "keyId": id, "userId": u.ID})
	if err != nil {
		return nil, fmt.Errorf("encode key details: %w", err)
	}
	return map[string]any{"keyId": id, "keyDetails": base64.StdEncoding.EncodeToString(info), "details": m.details(m.storage.now().UTC())}, nil
}

func publicDER(data []byte) ([]byte, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, invalid("publicKey is missing or not PEM: make the pair where it is used, and send its public half")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, invalid("publicKey: %s", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < minKeyBits || key.N.BitLen() > maxKeyBits {
		return nil, invalid("publicKey has to be RSA of %d to %d bits", minKeyBits, maxKeyBits)
	}
	return block.Bytes, nil
}

func (m *management) searchKeys(c *call) (any, error) {
	var in struct {
		Query page `json:"query"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	if _, err := c.db.User(c.Context(), c.PathValue("user")); err != nil {
		return nil, err
	}
	keys, err := c.db.Keys(c.Context(), c.PathValue("user"))
	if err != nil {
		return nil, err
	}
	return paged(m, in.Query, keys, func(store.MachineKey) bool { return true }, func(k store.MachineKey) any {
		return withExpiry(map[string]any{"id": k.ID, "type": "KEY_TYPE_JSON", "details": m.details(k.Created)}, k.Expires)
	}), nil
}

func withExpiry(out map[string]any, expires time.Time) any {
	if !expires.IsZero() {
		out["expirationDate"] = expires
	}
	return out
}

func (m *management) deleteKey(c *call) (any, error) {
	return m.changed(), c.db.DeleteKey(c.Context(), c.PathValue("user"), c.PathValue("key"))
}

func (m *management) searchPATs(c *call) (any, error) {
	var in struct {
		Query page `json:"query"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	pats, err := c.db.PATs(c.Context(), c.PathValue("user"))
	if err != nil {
		return nil, err
	}
	return paged(m, in.Query, pats, func(store.PAT) bool { return true }, func(p store.PAT) any {
		return withExpiry(map[string]any{"id": p.ID, "details": m.details(p.Created)}, p.Expires)
	}), nil
}

func (m *management) addPAT(c *call) (any, error) {
	var in struct {
		ExpirationDate time.Time `json:"expirationDate"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	u, err := m.machine(c)
	if err != nil {
		return nil, err
	}
	id, token, err := c.db.AddPAT(c.Context(), u.ID, in.ExpirationDate)
	return map[string]any{"tokenId": id, "token": token, "details": m.details(m.storage.now().UTC())}, err
}

func (m *management) deletePAT(c *call) (any, error) {
	return m.changed(), c.db.DeletePAT(c.Context(), c.PathValue("user"), c.PathValue("pat"))
}

func (m *management) searchGrants(c *call) (any, error) {
	var in struct {
		Query   page `json:"query"`
		Queries []struct {
			UserIDQuery *struct {
				UserID string `json:"userId"`
			} `json:"userIdQuery"`
			ProjectIDQuery *struct {
				ProjectID string `json:"projectId"`
			} `json:"projectIdQuery"`
			RoleKeyQuery *struct {
				RoleKey string `json:"roleKey"`
				Method  string `json:"method"`
			} `json:"roleKeyQuery"`
			UserNameQuery *struct {
				UserName string `json:"userName"`
				Method   string `json:"method"`
			} `json:"userNameQuery"`
		} `json:"queries"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	grants, err := c.db.Grants(c.Context(), "")
	if err != nil {
		return nil, err
	}
	return paged(m, in.Query, grants, func(g store.Grant) bool {
		for _, q := range in.Queries {
			switch {
			case q.UserIDQuery != nil && q.UserIDQuery.UserID != g.User,
				q.ProjectIDQuery != nil && q.ProjectIDQuery.ProjectID != g.Project,
				q.UserNameQuery != nil && !(&text{q.UserNameQuery.UserName, q.UserNameQuery.Method}).matches(g.Username),
				q.RoleKeyQuery != nil && !slices.ContainsFunc(g.Roles, (&text{q.RoleKeyQuery.RoleKey, q.RoleKeyQuery.Method}).matches):
				return false
			}
		}
		return true
	}, func(g store.Grant) any {
		return map[string]any{
			"id": g.ID, "userId": g.User, "userName": g.Username, "projectId": g.Project, "roleKeys": g.Roles,
			"orgId": m.storage.facts.OrgID, "state": "USER_GRANT_STATE_ACTIVE", "details": m.details(g.Created),
		}
	}), nil
}

// checkRoles refuses roles that the project does not have: a grant of one
// would come to life when somebody adds it.
func (m *management) checkRoles(c *call, project string, keys []string) error {
	roles, err := c.db.Roles(c.Context(), project)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if !slices.ContainsFunc(roles, func(r store.Role) bool { return r.Key == key }) {
			return invalid("the project has no role %q", key)
		}
	}
	return nil
}

func (m *management) addGrant(c *call) (any, error) {
	var in struct {
		ProjectID string   `json:"projectId"`
		RoleKeys  []string `json:"roleKeys"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	if err := m.checkRoles(c, in.ProjectID, in.RoleKeys); err != nil {
		return nil, err
	}
	id, err := c.db.AddGrant(c.Context(), c.PathValue("user"), in.ProjectID, in.RoleKeys)
	return map[string]any{"userGrantId": id, "details": m.details(m.storage.now().UTC())}, err
}

func (m *management) setGrant(c *call) (any, error) {
	var in struct {
		RoleKeys []string `json:"roleKeys"`
	}
	if err := c.body(&in); err != nil {
		return nil, err
	}
	grants, err := c.db.Grants(c.Context(), c.PathValue("user"))
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(grants, func(g store.Grant) bool { return g.ID == c.PathValue("grant") })
	if at < 0 {
		return nil, store.ErrNotFound
	}
	if err := m.checkRoles(c, grants[at].Project, in.RoleKeys); err != nil {
		return nil, err
	}
	return m.changed(), c.db.SetGrant(c.Context(), c.PathValue("user"), c.PathValue("grant"), in.RoleKeys)
}

func (m *management) deleteGrant(c *call) (any, error) {
	return m.changed(), c.db.DeleteGrant(c.Context(), c.PathValue("user"), c.PathValue("grant"))
}
