package podman

import "strings"

// Short names mean what they mean to Docker and Kubernetes. Podman would ask
// its own configuration, which differs from device to device.
const (
	defaultRegistry  = "docker.io"
	defaultNamespace = "library"
	defaultTag       = "latest"
)

// normalize gives an image reference in full: "nginx" becomes
// "docker.io/library/nginx:latest".
func normalize(image string) string {
	name, digest, pinned := strings.Cut(image, "@")
	registry, path := splitRegistry(name)
	if registry == "" {
		registry = defaultRegistry
		if !strings.Contains(path, "/") {
			path = defaultNamespace + "/" + path
		}
	}
	if tagged := strings.Contains(path[strings.LastIndexByte(path, '/')+1:], ":"); !tagged && !pinned {
		path += ":" + defaultTag
	}
	full := registry + "/" + path
	if pinned {
		// With both a tag and a digest Podman refuses; the digest decides.
		if i := strings.LastIndexByte(full, ':'); i > strings.LastIndexByte(full, '/') {
			full = full[:i]
		}
		full += "@" + digest
	}
	return full
}

// pinned is a full reference that means one image for ever.
func pinned(image, digest string) string {
	name, _, isPinned := strings.Cut(image, "@")
	if isPinned || digest == "" {
		return image
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name + "@" + digest
}

// splitRegistry cuts off the registry's host: what is before the first slash
// when it has a dot or a port, or is "localhost".
func splitRegistry(name string) (registry, path string) {
	first, rest, found := strings.Cut(name, "/")
	if found && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first, rest
	}
	return "", name
}
