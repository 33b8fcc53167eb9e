package zitadel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

const stateActive = "USER_STATE_ACTIVE"

// User is a person's or a machine's account.
type User struct {
	ID       string `json:"id"`
	Username string `json:"userName"`
	State    string `json:"state"`
	Machine  *struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	} `json:"machine"`
}

// Active says whether it may get tokens.
func (u User) Active() bool { return u.State == stateActive }

// IsMachine says whether it is a machine's.
func (u User) IsMachine() bool { return u.Machine != nil }

// UserByName gives the user of that name; found is false when there is none.
func (c *Client) UserByName(ctx context.Context, username string) (u User, found bool, err error) {
	users, err := search[User](ctx, c, "look up user "+username, []any{equals("userNameQuery", "userName", username)}, "users")
	// Zitadel's filter also finds the name in other organisations' login names.
	i := slices.IndexFunc(users, func(u User) bool { return u.Username == username })
	if err != nil || i < 0 {
		return User{}, false, err
	}
	return users[i], true, nil
}

// AddMachine makes a machine's account, whose tokens are JWTs, and gives its id.
func (c *Client) AddMachine(ctx context.Context, username, name, description string) (string, error) {
	var out struct {
		UserID string `json:"userId"`
	}
	in := map[string]any{"userName": username, "name": name, "description": description, "accessTokenType": "ACCESS_TOKEN_TYPE_JWT"}
	return out.UserID, c.call(ctx, "make machine user "+username, http.MethodPost, in, &out, "users", "machine")
}

// DeleteUser removes an account with its keys, tokens and grants.
func (c *Client) DeleteUser(ctx context.Context, user string) error {
	return c.call(ctx, "remove user "+user, http.MethodDelete, nil, nil, "users", user)
}

// Reactivate lets an account get tokens again.
func (c *Client) Reactivate(ctx context.Context, user string) error {
	return c.call(ctx, "reactivate user "+user, http.MethodPost, struct{}{}, nil, "users", user, "_reactivate")
}

// Deactivate keeps an account from getting tokens.
func (c *Client) Deactivate(ctx context.Context, user string) error {
	return c.call(ctx, "deactivate user "+user, http.MethodPost, struct{}{}, nil, "users", user, "_deactivate")
}

// Key is the public half of a machine's key, as the issuer knows it.
type Key struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expirationDate"` // zero: never
}

// Keys lists a machine's keys.
func (c *Client) Keys(ctx context.Context, user string) ([]Key, error) {
	return search[Key](ctx, c, "list keys", nil, "users", user, "keys")
}

// NewKey is a key that was registered.
type NewKey struct {
	ID string
	// File is set when the provider ignored the public half and made a pair
	// itself: its key file, private half included. Nobody gets it a second time.
	File Token
}

// AddKey registers a public key (PEM, PKIX). A Zitadel older than 2.61 takes
// none and makes a pair of its own: see NewKey.File.
func (c *Client) AddKey(ctx context.Context, user, publicPEM string, expires time.Time) (NewKey, error) {
	in := map[string]any{"type": "KEY_TYPE_JSON", "publicKey": []byte(publicPEM)}
	if !expires.IsZero() {
		in["expirationDate"] = expires.UTC()
	}
	var out struct {
		KeyID   string `json:"keyId"`
		Details []byte `json:"keyDetails"`
	}
	if err := c.call(ctx, "register key of user "+user, http.MethodPost, in, &out, "users", user, "keys"); err != nil {
		return NewKey{}, err
	}
	key := NewKey{ID: out.KeyID}
	var file struct {
		Key string `json:"key"`
	}
	if json.Unmarshal(out.Details, &file) == nil && file.Key != "" {
		key.File = Token(out.Details)
	}
	if key.ID == "" {
		return key, fmt.Errorf("register key of user %s: %w", user, errNotZitadel)
	}
	return key, nil
}

// DeleteKey ends a key; that it is gone already is no error.
func (c *Client) DeleteKey(ctx context.Context, user, key string) error {
	err := c.call(ctx, "remove key "+key, http.MethodDelete, nil, nil, "users", user, "keys", key)
	if IsNotFound(err) {
		return nil
	}
	return err
}

// PAT is a personal access token, without the token.
type PAT struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expirationDate"`
}

// PATs lists a machine's personal access tokens.
func (c *Client) PATs(ctx context.Context, user string) ([]PAT, error) {
	return search[PAT](ctx, c, "list personal access tokens", nil, "users", user, "pats")
}

// AddPAT makes a personal access token, which is shown this once.
func (c *Client) AddPAT(ctx context.Context, user string, expires time.Time) (id string, token Token, err error) {
	in := map[string]any{}
	if !expires.IsZero() {
		in["expirationDate"] = expires.UTC()
	}
	var out struct {
		TokenID string `json:"tokenId"`
		Token   Token  `json:"token"`
	}
	err = c.call(ctx, "make personal access token of user "+user, http.MethodPost, in, &out, "users", user, "pats")
	return out.TokenID, out.Token, err
}

// DeletePAT ends a personal access token.
func (c *Client) DeletePAT(ctx context.Context, user, pat string) error {
	return c.call(ctx, "remove personal access token "+pat, http.MethodDelete, nil, nil, "users", user, "pats", pat)
}

// Grant is what a user may in a project.
type Grant struct {
	ID      string   `json:"id"`
	Project string   `json:"projectId"`
	Roles   []string `json:"roleKeys"`
}

// Grant gives a user's grant in a project; found is false when there is none.
func (c *Client) Grant(ctx context.Context, user, project string) (g Grant, found bool, err error) {
	grants, err := search[Grant](ctx, c, "list grants of user "+user, []any{
		map[string]any{"userIdQuery": map[string]string{"userId": user}},
		map[string]any{"projectIdQuery": map[string]string{"projectId": project}},
	}, "users", "grants")
	i := slices.IndexFunc(grants, func(g Grant) bool { return g.Project == project })
	if err != nil || i < 0 {
		return Grant{}, false, err
	}
	return grants[i], true, nil
}

// AddGrant gives a user roles in a project.
func (c *Client) AddGrant(ctx context.Context, user, project string, roles []string) error {
	in := map[string]any{"projectId": project, "roleKeys": roles}
	return c.call(ctx, "grant roles to user "+user, http.MethodPost, in, nil, "users", user, "grants")
}

// SetGrant changes the roles of a grant.
func (c *Client) SetGrant(ctx context.Context, user, grant string, roles []string) error {
	err := c.call(ctx, "change roles of user "+user, http.MethodPut, map[string]any{"roleKeys": roles}, nil, "users", user, "grants", grant)
	if isUnchanged(err) {
		return nil
	}
	return err
}
