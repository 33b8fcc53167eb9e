// Package systemtest runs the built fleet-server as its users do, as a process
// with a data directory, and looks at what it serves and what it leaves behind.
// It knows nothing of the server's insides and imports none of them.
package systemtest
