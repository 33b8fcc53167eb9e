package view

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nationtech/fleetctl/internal/dashboard/fleet"
)

// Page is what every page has.
type Page struct {
	Title   string
	Active  string // path of its entry in the navigation
	User    *User  // nil before sign-in
	Live    string // URL of its event stream; "" for none
	Version string // of the server
	Assets  Assets
	Joins   int // join requests that wait
}

// Assets are the URLs of script and style, which change with their content.
type Assets struct{ Script, Style, Icon string }

// User is who looks at the page.
type User struct {
	Name       string
	Role       string // the strongest
	CanOperate bool
	CanAdmin   bool
	FormToken  string
}

// navigation is the entries; the join requests and the record are an
// administrator's.
var navigation = []struct {
	Path, Text string
	Admin      bool
}{
	{"/", "Fleet", false},
	{"/devices", "Devices", false},
	{"/deployments", "Deployments", false},
	{"/joins", "Join requests", true},
	{"/audit", "Audit", true},
}

// Stamp is a time as every browser shows it; the script makes "3 min ago" of it.
func stamp(t time.Time) string { return t.UTC().Format("2 Jan 2006 15:04:05") + " UTC" }

func machineTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Number puts thin groups into a number: 10 000.
func number(n int) string {
	s := strconv.Itoa(n)
	if n < 0 || len(s) <= 3 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteRune('\u202f') // narrow no-break space
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1\u00a0" + one
	}
	return number(n) + "\u00a0" + many
}

func bytesText(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 1<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	case n < 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d GiB", n>>30)
}

// devicesURL is the list of devices with some of them chosen.
func devicesURL(selector, state string) string {
	q := url.Values{}
	if selector != "" {
		q.Set("selector", selector)
	}
	if state != "" {
		q.Set("state", state)
	}
	if len(q) == 0 {
		return "/devices"
	}
	return "/devices?" + q.Encode()
}

func deviceURL(name string) string { return "/devices/" + url.PathEscape(name) }

func deploymentURL(d *fleet.Deployment) string {
	return "/deployments/" + url.PathEscape(d.Namespace) + "/" + url.PathEscape(d.Name)
}
