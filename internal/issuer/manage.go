package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/nationtech/fleetctl/internal/issuer/store"
)

// management is the part of Zitadel's management API (v1, REST) that a fleet
// needs: same paths, bodies, paging and errors
// (https://zitadel.com/docs/apis/resources/mgmt).
type management struct {
	storage  *storage
	provider *provider
	issuer   string
	log      *slog.Logger
}

const managementPrefix = "/management/v1"

// handler answers one call: what it returns is written as JSON.
type handler func(*call) (any, error)

// call is a request of somebody who may make it.
type call struct {
	*http.Request
	db   *store.Store
	user string // who calls
}

func (m *management) register(mux *http.ServeMux) {
	for pattern, h := range map[string]handler{
		"GET /orgs/me": m.org,

		"POST /projects/_search":                         m.searchProjects,
		"POST /projects":                                 m.addProject,
		"GET /projects/{project}":                        m.project,
		"POST /projects/{project}/roles/_search":         m.searchRoles,
		"POST /projects/{project}/roles":                 m.addRole,
		"POST /projects/{project}/apps/_search":          m.searchApps,
		"POST /projects/{project}/apps/oidc":             m.addOIDCApp,
		"POST /projects/{project}/apps/api":              m.addAPIApp,
		"PUT /projects/{project}/apps/{app}/oidc_config": m.setOIDCApp,
		"POST /users/machine":                            m.addMachine,
		"POST /users/_search":                            m.searchUsers,
		"GET /users/{user}":                              m.user,
		"DELETE /users/{user}":                           m.deleteUser,
		"POST /users/{user}/_deactivate":                 m.deactivate,
		"POST /users/{user}/_reactivate":                 m.reactivate,
		"POST /users/{user}/keys/_search":                m.searchKeys,
		"POST /users/{user}/keys":                        m.addKey,
		"DELETE /users/{user}/keys/{key}":                m.deleteKey,
		"POST /users/{user}/pats/_search":                m.searchPATs,
		"POST /users/{user}/pats":                        m.addPAT,
		"DELETE /users/{user}/pats/{pat}":                m.deletePAT,
		"POST /users/grants/_search":                     m.searchGrants,
		"POST /users/{user}/grants":                      m.addGrant,
		"PUT /users/{user}/grants/{grant}":               m.setGrant,
		"DELETE /users/{user}/grants/{grant}":            m.deleteGrant,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+managementPrefix+path, m.serve(h))
	}
	mux.HandleFunc(managementPrefix+"/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, &apiError{codeUnimplemented, "this issuer does not have this call"})
	})
}

func (m *management) serve(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r, db: m.storage.store}
		answer, err := any(nil), m.authorize(r.Context(), c)
		if err == nil {
			answer, err = h(c)
		}
		if err == nil {
			if r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/_search") {
				m.log.Info("identity changed", "op", "manage", "call", r.Method+" "+r.URL.Path, "user", c.user, "from", source(r))
			}
			writeJSON(w, http.StatusOK, answer)
			return
		}
		var known *apiError
		if !errors.As(translate(err), &known) {
			m.log.Error("management call failed", "op", "manage", "call", r.Method+" "+r.URL.Path, "error", err)
			known = &apiError{codeInternal, "An internal error occurred"}
		}
		writeError(w, known)
	}
}

// authorize finds out who calls, by an access token of ours or a personal
// access token, and lets administrators in.
func (m *management) authorize(ctx context.Context, c *call) error {
	token, ok := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return &apiError{codeUnauthenticated, "auth header missing (AUTH-7Q2bf)"}
	}
	user, err := m.identify(ctx, token)
	if err != nil {
		return &apiError{codeUnauthenticated, "invalid token: " + err.Error() + " (AUTH-7fs1e)"}
	}
	if org := c.Header.Get("x-zitadel-orgid"); org != "" && org != m.storage.facts.OrgID {
		return &apiError{codePermissionDenied, fmt.Sprintf("Organisation %s doesn't exist (AUTH-Bs7Ds)", org)}
	}
	admin, err := m.storage.hasRole(ctx, user, RoleAdmin)
	if err != nil {
		return err
	}
	if !admin {
		return &apiError{codePermissionDenied, "No matching permissions found (AUTH-5mWD2)"}
	}
	c.user = user
	return nil
}

func (m *management) identify(ctx context.Context, token string) (string, error) {
	if strings.Count(token, ".") != 2 {
		user, err := m.storage.store.PATUser(ctx, token)
		if err != nil {
			return "", errors.New("it is not known")
		}
		return user, nil
	}
	ctx = op.ContextWithIssuer(ctx, m.issuer)
	claims, err := op.VerifyAccessToken[*oidc.AccessTokenClaims](ctx, token, m.provider.AccessTokenVerifier(ctx))
	if err != nil {
		return "", err
	}
	return claims.Subject, m.storage.alive(ctx, claims.JWTID, claims.Subject)
}

// Codes of gRPC, which Zitadel's REST answers carry.
const (
	codeInvalidArgument  = 3
	codeNotFound         = 5
	codeAlreadyExists    = 6
	codePermissionDenied = 7
	codeUnimplemented    = 12
	codeInternal         = 13
	codeUnauthenticated  = 16
)

var httpStatus = map[int]int{
	codeInvalidArgument: http.StatusBadRequest, codeNotFound: http.StatusNotFound, codeAlreadyExists: http.StatusConflict,
	codePermissionDenied: http.StatusForbidden, codeUnimplemented: http.StatusNotImplemented,
	codeInternal: http.StatusInternalServerError, codeUnauthenticated: http.StatusUnauthorized,
}

type apiError struct {
	code    int
	message string
}

func (e *apiError) Error() string { return e.message }

func invalid(format string, args ...any) error {
	return &apiError{codeInvalidArgument, fmt.Sprintf(format, args...)}
}

func translate(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &apiError{codeNotFound, "it could not be found"}
	case errors.Is(err, store.ErrExists):
		return &apiError{codeAlreadyExists, err.Error()}
	}
	return err
}

func writeError(w http.ResponseWriter, e *apiError) {
	writeJSON(w, httpStatus[e.code], map[string]any{
		"code": e.code, "message": e.message,
		"details": []any{map[string]string{"@type": "type.googleapis.com/zitadel.v1.ErrorDetail", "message": e.message}},
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	if v == nil {
		v = struct{}{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller has gone
}

// body decodes a request's body; none is an empty one.
func (c *call) body(into any) error {
	if err := json.NewDecoder(c.Body).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return invalid("the body is not what this call takes: %s", err)
	}
	return nil
}

// details is what Zitadel says of every object.
type details struct {
	Sequence      string    `json:"sequence"`
	CreationDate  time.Time `json:"creationDate,omitzero"`
	ChangeDate    time.Time `json:"changeDate,omitzero"`
	ResourceOwner string    `json:"resourceOwner"`
}

func (m *management) details(created time.Time) details {
	return details{Sequence: "1", CreationDate: created, ChangeDate: created, ResourceOwner: m.storage.facts.OrgID}
}

func (m *management) changed() map[string]any {
	return map[string]any{"details": m.details(m.storage.now().UTC())}
}

// number is a uint64 in JSON: protobuf writes it as text, and reads both.
type number uint64

func (n *number) UnmarshalJSON(data []byte) error {
	v, err := strconv.ParseUint(strings.Trim(string(data), `"`), 10, 32)
	*n = number(v)
	return err
}

type page struct {
	Offset number `json:"offset"`
	Limit  number `json:"limit"`
	Asc    bool   `json:"asc"`
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// paged answers a search: what keep lets through, from offset on, at most limit.
func paged[T any](m *management, p page, items []T, keep func(T) bool, show func(T) any) any {
	matching := []any{}
	for _, item := range items {
		if keep(item) {
			matching = append(matching, show(item))
		}
	}
	limit := min(int(p.Limit), maxLimit)
	if limit == 0 {
		limit = defaultLimit
	}
	from := min(int(p.Offset), len(matching))
	return map[string]any{
		"details": map[string]any{
			"totalResult": strconv.Itoa(len(matching)), "processedSequence": "1", "viewTimestamp": m.storage.now().UTC(),
		},
		"result": matching[from:min(from+limit, len(matching))],
	}
}

// text is a filter by text. Equal is what Zitadel does when no method is named.
type text struct {
	Value  string
	Method string
}

func (t *text) matches(s string) bool {
	if t == nil {
		return true
	}
	value := t.Value
	if strings.HasSuffix(t.Method, "_IGNORE_CASE") {
		s, value = strings.ToLower(s), strings.ToLower(value)
	}
	switch strings.TrimSuffix(t.Method, "_IGNORE_CASE") {
	case "TEXT_QUERY_METHOD_STARTS_WITH":
		return strings.HasPrefix(s, value)
	case "TEXT_QUERY_METHOD_CONTAINS":
		return strings.Contains(s, value)
	case "TEXT_QUERY_METHOD_ENDS_WITH":
		return strings.HasSuffix(s, value)
	}
	return s == value
}

func (m *management) org(*call) (any, error) {
	return map[string]any{"org": map[string]any{
		"id": m.storage.facts.OrgID, "name": orgName, "primaryDomain": orgDomain, "state": "ORG_STATE_ACTIVE", "details": m.details(time.Time{}),
	}}, nil
}
