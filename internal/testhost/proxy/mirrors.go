package proxy

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// entry and plainHTTP find the plain-HTTP sources in both of apt's formats, sources.list(5):
// "deb [options] URI suite component" and "URIs: URI...".
var entry = regexp.MustCompile(`(?m)^(?:\s*deb(?:-src)?\s|URIs:).*$`)
var plainHTTP = regexp.MustCompile(`\bhttp://[^\s]+`)

// Mirrors lists the hosts of this machine's apt sources, and of those below
// further roots such as a template's, as they stand in a URL: "name" or
// "name:port". Comments do not count.
func Mirrors(roots ...string) ([]string, error) {
	var hosts []string
	for _, root := range append([]string{"/"}, roots...) {
		lists, err := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d/*"))
		if err != nil {
			return nil, err
		}
		for _, list := range append(lists, filepath.Join(root, "etc/apt/sources.list")) {
			data, err := os.ReadFile(list)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			hosts = append(hosts, hostsOf(data)...)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

func hostsOf(sources []byte) (hosts []string) {
	for _, line := range entry.FindAll(sources, -1) {
		for _, source := range plainHTTP.FindAll(line, -1) {
			if u, err := url.Parse(string(source)); err == nil && u.Host != "" {
				hosts = append(hosts, u.Host)
			}
		}
	}
	return hosts
}
