package view

import (
	"strings"

	"github.com/nationtech/fleetctl/internal/serverapi/api"
)

// JoinsData is what the page of join requests shows.
type JoinsData struct {
	User      *User
	Requests  []api.Join
	ServerURL string
	// Problem says why they are not known.
	Problem string
}

func joinFacts(j api.Join) string {
	var out []string
	for _, f := range []string{j.Facts.Hostname, j.Facts.Model, j.Facts.OS, j.Facts.Architecture} {
		if f != "" {
			out = append(out, f)
		}
	}
	return strings.Join(out, " · ")
}
