package accounts

import (
	"github.com/nationtech/fleetctl/internal/wire"
)

// How servers treat connections.
const (
	// MaxPingsOut unanswered pings end a connection: with wire.PingInterval,
	// a device whose link died is taken for connected for up to 6 minutes.
	MaxPingsOut = 1
	// headroom above the largest value, for headers.
	headroom = 16 << 10
)

// MaxPayload is the largest message, in bytes: a value of the bucket with the
// largest ones.
func MaxPayload() int32 { return wire.BucketDesired.MaxValueBytes() + headroom }
