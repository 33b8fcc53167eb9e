package zitadel_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/hint"
	"github.com/nationtech/fleetctl/internal/identity/zitadel"
)

// No Zitadel could be had for these tests. What follows are answers in the form
// that its documentation and public reports show, where they differ from the
// embedded issuer's: zero values and empty lists are left out, errors name a
// place in its source, and a change that changes nothing is an error.

type recorded struct {
	status int
	body   string
}

// replay answers each "METHOD path" with what was recorded; anything else fails
// the test.
func replay(t *testing.T, org string, answers map[string]recorded) *zitadel.Client {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := answers[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/management/v1")]
		if !ok {
			t.Errorf("unexpected %s %s", r.Method, r.URL.Path)
		}
		if r.Header.Get("Authorization") != "Bearer token" || r.Header.Get("x-zitadel-orgid") != org {
			t.Errorf("%s %s: token or organisation is missing", r.Method, r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	t.Cleanup(server.Close)
	c, err := zitadel.New(zitadel.Config{Issuer: server.URL, OrgID: org, HTTPClient: server.Client(),
		Token: func(context.Context) (zitadel.Token, error) { return "token", nil }})
	check(t, err)
	return c
}

func TestRecordedEmptySearch(t *testing.T) {
	c := replay(t, "", map[string]recorded{"POST /projects/_search": {200, `{"details":{"processedSequence":"1432","viewTimestamp":"2025-03-01T10:00:00.1Z"}}`}})
	if projects, err := c.Projects(t.Context(), "fleet"); err != nil || len(projects) != 0 {
		t.Errorf("got %+v, %v", projects, err)
	}
}

func TestRecordedZeroValuesAreLeftOut(t *testing.T) {
	c := replay(t, "", map[string]recorded{"POST /projects/7/apps/_search": {200, `{"details":{"totalResult":"2"},"result":[
		{"id":"1","name":"fleet-dashboard","state":"APP_STATE_ACTIVE","oidcConfig":{"redirectUris":["https://x/cb"],"responseTypes":["OIDC_RESPONSE_TYPE_CODE"],
		 "grantTypes":["OIDC_GRANT_TYPE_AUTHORIZATION_CODE"],"clientId":"310000000000000001","accessTokenType":"OIDC_TOKEN_TYPE_JWT","clockSkew":"0s"}},
		{"id":"2","name":"fleet-server","state":"APP_STATE_ACTIVE","apiConfig":{"clientId":"310000000000000002"}}]}`}})
	apps, err := c.Apps(t.Context(), "7", "")
	if err != nil || len(apps) != 2 {
		t.Fatalf("got %+v, %v", apps, err)
	}
	same := zitadel.OIDCConfig{AppType: zitadel.AppWeb, AuthMethod: zitadel.AuthBasic, GrantTypes: []string{zitadel.GrantCode}, RedirectURIs: []string{"https://x/cb"}}
	if !apps[0].OIDC.Equal(same) || apps[0].ClientID() != "310000000000000001" || apps[1].ClientID() != "310000000000000002" {
		t.Errorf("got %+v %+v", apps[0].OIDC, apps[1].API)
	}
}

func TestRecordedChangeThatChangesNothing(t *testing.T) {
	unchanged := recorded{400, `{"code":9,"message":"No changes (COMMAND-1m88i)","details":[{"@type":"type.googleapis.com/zitadel.v1.ErrorDetail","id":"COMMAND-1m88i","message":"No changes"}]}`}
	c := replay(t, "", map[string]recorded{"PUT /projects/7/apps/1/oidc_config": unchanged, "PUT /users/5/grants/6": unchanged})
	check(t, c.SetOIDCApp(t.Context(), "7", "1", zitadel.OIDCConfig{}))
	check(t, c.SetGrant(t.Context(), "5", "6", []string{"fleet-device"}))
}

func TestRecordedRoleIsThere(t *testing.T) {
	c := replay(t, "", map[string]recorded{"POST /projects/7/roles": {409, `{"code":6,"message":"Role already exists (PROJECT-sl3g)","details":[{"@type":"type.googleapis.com/zitadel.v1.ErrorDetail","id":"PROJECT-sl3g"}]}`}})
	check(t, c.AddRole(t.Context(), "7", zitadel.Role{Key: "fleet-device"}))
}

// A Zitadel from before public keys could be registered makes a pair itself.
func TestRecordedKeyPairOfTheProvider(t *testing.T) {
	file := `{"type":"serviceaccount","keyId":"9","key":"-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----\n","userId":"5"}`
	c := replay(t, "", map[string]recorded{"POST /users/5/keys": {200, `{"keyId":"9","keyDetails":"` + base64.StdEncoding.EncodeToString([]byte(file)) + `","details":{"sequence":"3"}}`}})
	key, err := c.AddKey(t.Context(), "5", publicKey(t), time.Time{})
	if err != nil || key.ID != "9" || string(key.File) != file {
		t.Errorf("key %s, file %q, %v", key.ID, string(key.File), err)
	}
	c = replay(t, "", map[string]recorded{"POST /users/5/keys": {200, `{"keyId":"9","keyDetails":"` + base64.StdEncoding.EncodeToString([]byte(`{"type":"serviceaccount","keyId":"9","userId":"5"}`)) + `"}`}})
	if key, err := c.AddKey(t.Context(), "5", publicKey(t), time.Time{}); err != nil || key.File != "" {
		t.Errorf("a provider that took the public half: %+v, %v", key, err)
	}
}

// A user of another organisation has the name as part of a login name.
func TestRecordedUserOfAnotherName(t *testing.T) {
	c := replay(t, "42", map[string]recorded{"POST /users/_search": {200, `{"details":{"totalResult":"1"},"result":[{"id":"5","userName":"device-pi@other.example.com","state":"USER_STATE_ACTIVE","machine":{"name":"pi"}}]}`}})
	if u, found, err := c.UserByName(t.Context(), "device-pi"); found || err != nil {
		t.Errorf("took %+v, %v", u, err)
	}
}

func TestRecordedRefusals(t *testing.T) {
	denied := recorded{403, `{"code":7,"message":"No matching permissions found (AUTH-5mWD2)","details":[{"@type":"type.googleapis.com/zitadel.v1.ErrorDetail","id":"AUTH-5mWD2","message":"No matching permissions found"}]}`}
	for name, tc := range map[string]struct {
		answers       map[string]recorded
		org           string
		text, hint    string
		code          int
		hintMustNotBe string
		mayNot        bool
	}{
		"missing role, in one's own organisation": {
			mayNot:  true,
			answers: map[string]recorded{"POST /projects/_search": denied, "GET /orgs/me": {200, `{"org":{"id":"77","name":"ACME"}}`}},
			text:    "No matching permissions found (AUTH-5mWD2)", hint: "ACME, id 77", code: hint.CodeAuth,
		},
		"missing role, without even seeing the organisation": {
			mayNot:  true,
			answers: map[string]recorded{"POST /projects/_search": denied, "GET /orgs/me": denied}, hint: "Org Owner", code: hint.CodeAuth,
		},
		"wrong organisation": {
			mayNot:  true,
			answers: map[string]recorded{"POST /projects/_search": {403, `{"code":7,"message":"Organisation doesn't exist (AUTH-Bs7Ds)"}`}},
			org:     "77", hint: "--org-id", code: hint.CodeAuth, hintMustNotBe: "role",
		},
		"not a member": {
			mayNot:  true,
			answers: map[string]recorded{"POST /projects/_search": {403, `{"code":7,"message":"membership not found (AUTHZ-cdgFk)"}`}},
			hint:    "--org-id", code: hint.CodeAuth, hintMustNotBe: "role",
		},
		"a token that is not for the API": {
			answers: map[string]recorded{"POST /projects/_search": {401, `{"code":16,"message":"Token is invalid (AUTH-7fs1e)","details":[{"@type":"type.googleapis.com/zitadel.v1.ErrorDetail","id":"AUTH-7fs1e","message":"Token is invalid"}]}`}},
			hint:    zitadel.ScopeAPI, code: hint.CodeAuth,
		},
		"no Zitadel": {
			mayNot:  true,
			answers: map[string]recorded{"POST /projects/_search": {404, `<html>not found</html>`}}, hint: "no management API", code: hint.CodeFailed,
		},
		"no Zitadel that answers": {
			answers: map[string]recorded{"POST /projects/_search": {200, `<html>hello</html>`}}, hint: "no management API", code: hint.CodeFailed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := replay(t, tc.org, tc.answers).Projects(t.Context(), "fleet")
			if err == nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(hint.Of(err), tc.hint) || hint.Code(err) != tc.code ||
				tc.hintMustNotBe != "" && strings.Contains(hint.Of(err), tc.hintMustNotBe) {
				t.Errorf("error %v\nhint %q, code %d", err, hint.Of(err), hint.Code(err))
			}
			if zitadel.MayNot(err) != tc.mayNot {
				t.Errorf("may not: %t, %v", !tc.mayNot, err)
			}
		})
	}
}
