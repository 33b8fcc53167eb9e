package hostcfg

import (
	"slices"
	"strings"
)

// OSRelease holds the fields of os-release(5) that we use.
type OSRelease struct {
	ID         string   `json:"id"`     // such as debian; "linux" when not set
	IDLike     []string `json:"idLike"` // closest relatives first
	VersionID  string   `json:"versionId"`
	Codename   string   `json:"codename"`
	PrettyName string   `json:"prettyName"`
}

// ParseOSRelease reads os-release(5): shell-like assignments, with double
// quotes, single quotes and backslashes. Lines that are none are skipped, as
// the format demands.
func ParseOSRelease(text string) OSRelease {
	o := OSRelease{ID: "linux"}
	for _, line := range strings.Split(text, "\n") {
		name, raw, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		value := unquoteShell(raw)
		switch name {
		case "ID":
			o.ID = value
		case "ID_LIKE":
			o.IDLike = strings.Fields(value)
		case "VERSION_ID":
			o.VersionID = value
		case "VERSION_CODENAME":
			o.Codename = value
		case "PRETTY_NAME":
			o.PrettyName = value
		}
	}
	return o
}

// unquoteShell undoes the quoting that os-release(5) allows in a value.
func unquoteShell(raw string) string {
	var b strings.Builder
	var in byte // the quote we are inside of
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '\\' && in != '\'' && i+1 < len(raw):
			i++
			b.WriteByte(raw[i])
		case in == 0 && (c == '"' || c == '\''):
			in = c
		case c == in && in != 0:
			in = 0
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// family finds the row of the table that ID, or else ID_LIKE, belongs to.
func (o OSRelease) family() Family {
	for _, id := range append([]string{o.ID}, o.IDLike...) {
		for i := range distros {
			if slices.ContainsFunc(distros[i].ids, func(known string) bool { return id == known || strings.HasPrefix(id, known+"-") }) {
				return distros[i].family
			}
		}
	}
	return ""
}
