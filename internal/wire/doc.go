// Package wire is the one place where what crosses the network is spelled:
// accounts, subjects, buckets, keys, payloads, signatures, and the names that
// are allowed in them. It owns shapes and their validation, imports only the
// standard library, and does no I/O, so that agent, operator, callout and
// server agree without importing each other.
//
// Payloads only grow: a field is never renamed, retyped or reused. Every
// released JSON stays in testdata and must still decode.
//
// History
//
//	2026-11-23  v1: manifest, desired state (PodmanV0), device state, info,
//	            heartbeat, commands, signatures.
//	2026-11-24  v1: remote hands (restart, inspect, logs) and the control of
//	            their answers; reply codes not-found and bad-request.
//	2026-11-25  v1: commands stop and start.
//	2026-11-25  v1: exec, forward, stat, upload and download, and their input;
//	            reply.consumed.
//	2026-11-25  v1: more of a container in PodmanV0 (podman-v0.2); what a
//	            deployment takes from Secrets and ConfigMaps, sealed
//	            (desired-state.2); health and warnings in the device state
//	            (device-state.2).
//	2026-11-26  v1: the reason of a service's failure in the device state
//	            (device-state.3).
//	2026-11-26  v1: key sets, which replace the keys that devices pin, and that
//	            travel beside manifests (key-set, envelope.2, pinned-keys.2);
//	            device-info.signingKeys, and keysRevision (device-info.2).
//	2026-11-26  v1: why a device refuses (device-state.4).
package wire

// SchemaVersion is the value of every payload's schemaVersion field.
const SchemaVersion = 1
