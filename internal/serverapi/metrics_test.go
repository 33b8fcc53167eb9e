package serverapi_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/internal/identity/role"
	"github.com/nationtech/fleetctl/internal/identity/verify"
)

// get asks a path with a token and gives the status and the body.
func (c *control) get(t *testing.T, path, token string) (int, string) {
	t.Helper()
	req := must(http.NewRequestWithContext(timeout(t), http.MethodGet, c.url+path, nil))(t)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig(c.ca), DisableKeepAlives: true}}
	response, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, string(must(io.ReadAll(response.Body))(t))
}

func TestMetricsAreForWhoMayLook(t *testing.T) {
	c := start(t)
	c.people["of-viewer"] = verify.Claims{Subject: "1", Username: "vera", Roles: []string{role.Viewer}}
	c.people["of-nobody"] = verify.Claims{Subject: "2", Username: "nemo"}
	scraper := strings.TrimSpace(string(must(os.ReadFile(c.scraper))(t)))
	for name, tc := range map[string]struct {
		token string
		want  int
	}{
		"no token":              {"", http.StatusUnauthorized},
		"a wrong token":         {strings.Repeat("0", 64), http.StatusUnauthorized},
		"a person with no role": {"of-nobody", http.StatusForbidden},
		"a viewer":              {"of-viewer", http.StatusOK},
		"the administrator":     {strings.TrimSpace(c.token), http.StatusOK},
		"a monitoring system":   {scraper, http.StatusOK},
	} {
		if got, body := c.get(t, "/metrics", tc.token); got != tc.want || (got == http.StatusOK) != strings.Contains(body, "fleet_api_requests_in_flight") {
			t.Errorf("%s: %d, want %d\n%s", name, got, tc.want, body)
		}
	}
	if got, _ := c.get(t, "/v1/devices/pi-1", scraper); got != http.StatusUnauthorized {
		t.Errorf("the token of a monitoring system opens the API as well: %d", got)
	}
}

func TestRequestsAreCountedByRoute(t *testing.T) {
	c := start(t)
	c.get(t, "/v1/devices/pi-1", "")
	c.get(t, "/v1/devices/pi-2", "")
	c.get(t, "/no/such/path", "")
	_, body := c.get(t, "/metrics", strings.TrimSpace(c.token))
	for _, want := range []string{
		`fleet_api_requests_total{code="401",route="GET /v1/devices/{id}"} 2`,
		`fleet_api_requests_total{code="404",route="none"} 1`,
		`fleet_api_first_byte_seconds_count{route="GET /v1/devices/{id}"} 2`,
		"fleet_api_requests_in_flight 1",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if strings.Contains(body, "pi-1") {
		t.Error("a client's choice became a label")
	}
}
