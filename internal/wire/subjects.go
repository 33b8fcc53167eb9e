package wire

import "strings"

// The NATS accounts. FLEET owns the buckets, DEVICES holds the connections of
// devices and imports exactly what they may reach. VIEWERS is for who only
// reads: in FLEET, the answer to a read could be aimed at a key, since nobody
// checks the reply subject of a request.
const (
	AccountFleet   = "FLEET"
	AccountDevices = "DEVICES"
	AccountViewers = "VIEWERS"
	AccountSystem  = "SYS"
)

// Bucket is the name of a JetStream key-value bucket.
type Bucket string

// The buckets. Their limits are in Limits.
const (
	BucketDesired   Bucket = "desired-state"
	BucketState     Bucket = "device-state"
	BucketInfo      Bucket = "device-info"
	BucketHeartbeat Bucket = "device-heartbeat"
)

// Buckets lists every bucket.
func Buckets() []Bucket {
	return []Bucket{BucketDesired, BucketState, BucketInfo, BucketHeartbeat}
}

// MaxValueBytes is the largest value of the bucket, in bytes.
func (b Bucket) MaxValueBytes() int32 {
	switch b {
	case BucketDesired:
		return 1 << 20
	case BucketState:
		return 64 << 10
	case BucketInfo:
		return 16 << 10
	case BucketHeartbeat:
		return 4 << 10
	}
	return 0
}

// Stream is the JetStream stream behind the bucket.
func (b Bucket) Stream() string { return "KV_" + string(b) }

// Subject is the subject that a put of key in the bucket is published on. The
// key may be a wildcard.
func (b Bucket) Subject(key string) string { return "$KV." + string(b) + "." + key }

// Key is the inverse of Subject; ok is false for another bucket's subject.
func (b Bucket) Key(subject string) (key string, ok bool) {
	return strings.CutPrefix(subject, "$KV."+string(b)+".")
}

// DirectGetSubject is where the last value of key is asked for: a JetStream
// direct get by subject (NATS ADR-31). It needs no consumer.
func (b Bucket) DirectGetSubject(key string) string {
	return "$JS.API.DIRECT.GET." + b.Stream() + "." + b.Subject(key)
}

// ManifestKey is the key of a device's manifest in BucketDesired.
func ManifestKey(device string) string { return device }

// DesiredKey is the key of one deployment on one device in BucketDesired.
func DesiredKey(device, deployment string) string { return device + "." + deployment }

// ParseDesiredKey splits a key of BucketDesired; deployment is empty for a
// manifest. ok is false when a part is no valid name.
func ParseDesiredKey(key string) (device, deployment string, ok bool) {
	device, deployment, pair := strings.Cut(key, ".")
	if ValidateDeviceID(device) != nil || pair && ValidateDeploymentName(deployment) != nil {
		return "", "", false
	}
	return device, deployment, true
}

// StateKey is the one key that a device may write in BucketState.
func StateKey(device string) string { return "state." + device }

// InfoKey is the one key that a device may write in BucketInfo.
func InfoKey(device string) string { return "info." + device }

// HeartbeatKey is the one key that a device may write in BucketHeartbeat.
func HeartbeatKey(device string) string { return "heartbeat." + device }

// DeviceOfKey gives the device of a key made by StateKey, InfoKey or
// HeartbeatKey; ok is false for anything else.
func DeviceOfKey(b Bucket, key string) (device string, ok bool) {
	prefix := map[Bucket]string{BucketState: "state.", BucketInfo: "info.", BucketHeartbeat: "heartbeat."}[b]
	if prefix == "" {
		return "", false
	}
	device, ok = strings.CutPrefix(key, prefix)
	if !ok || ValidateDeviceID(device) != nil {
		return "", false
	}
	return device, true
}

// HintSubject is where "look again" arrives for a device. Its payload is never
// trusted: the broker republishes desired-state writes there.
func HintSubject(device string) string { return "desired." + device }

// CommandSubject is where a command for a device arrives.
func CommandSubject(device, verb string) string { return "device-commands." + device + "." + verb }

// ReplySubject is where the answers to the command with this nonce go.
func ReplySubject(device, nonce string) string { return "device-replies." + device + "." + nonce }

// InboxPrefix is the prefix of a device's inboxes. Wildcards match whole
// tokens, so it ends in a token of its own.
func InboxPrefix(device string) string { return "_INBOX." + device }

// Permissions are the subjects that a connection may use.
type Permissions struct {
	Publish   []string
	Subscribe []string
}

// DevicePermissions is everything that a device may do. The list was attacked
// with real servers; internal/broker repeats the attacks.
func DevicePermissions(device string) Permissions {
	return Permissions{
		Publish: []string{
			BucketState.Subject(StateKey(device)),
			BucketInfo.Subject(InfoKey(device)),
			BucketHeartbeat.Subject(HeartbeatKey(device)),
			BucketDesired.DirectGetSubject(ManifestKey(device)),
			BucketDesired.DirectGetSubject(ManifestKey(device) + ".>"),
			ReplySubject(device, "*"),
		},
		Subscribe: []string{
			InboxPrefix(device) + ".>",
			HintSubject(device),
			CommandSubject(device, "*"),
		},
	}
}
