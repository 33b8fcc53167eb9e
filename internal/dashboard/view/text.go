package view

import (
	"encoding/json"
	"unicode"
	"unicode/utf8"

	"github.com/nationtech/fleetctl/internal/dashboard/session"
)

// NoticeText is what a page says that has nothing else.
type NoticeText struct{ Title, Text, Hint, Link, LinkText string }

// formHeader is htmx's way to add a header to each of a page's requests.
func formHeader(u *User) string {
	data, err := json.Marshal(map[string]string{session.FormHeader: u.FormToken})
	if err != nil {
		return "{}" // strings always encode
	}
	return string(data)
}

func initial(name string) string {
	r, _ := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(r))
}
