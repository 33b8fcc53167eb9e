package presence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/nationtech/fleetctl/internal/wire"
)

const (
	listSubject = "$SYS.REQ.SERVER.PING.CONNZ"
	// listQuiet is how long no further server may answer before a listing
	// is taken for whole: how many servers there are is not known.
	listQuiet   = 500 * time.Millisecond
	listTimeout = 10 * time.Second
	listPage    = 1024
	kickTimeout = 5 * time.Second
)

// relist asks every server for its connections and corrects the table.
func (t *Tracker) relist(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	t.mu.Lock()
	before := t.table.beginListing()
	t.mu.Unlock()
	listed, err := t.list(ctx)
	if err != nil {
		listed = nil
		for _, c := range before {
			listed = append(listed, c) // rather too old than empty
		}
	}
	t.mu.Lock()
	added, gone := t.table.endListing(before, listed)
	first := err == nil && !t.complete
	t.complete = t.complete || err == nil
	t.mu.Unlock()
	t.count(eventDisconnect, len(gone))
	for _, c := range added {
		t.connected(c)
	}
	for _, c := range gone {
		t.tell(c.Device)
	}
	if first {
		t.tell("")
	}
	if err != nil {
		return fmt.Errorf("list connected devices: %w", err)
	}
	return nil
}

// connz is the part of nats-server's answer that matters here.
type connz struct {
	Server struct {
		ID string `json:"id"`
	} `json:"server"`
	Data struct {
		Total       int       `json:"total"`
		Now         time.Time `json:"now"`
		Connections []listed  `json:"connections"`
	} `json:"data"`
	Error *struct {
		Description string `json:"description"`
	} `json:"error"`
}

// listed is one connection in it.
type listed struct {
	CID      uint64    `json:"cid"`
	IP       string    `json:"ip"`
	Start    time.Time `json:"start"`
	User     string    `json:"authorized_user"`
	Messages int64     `json:"in_msgs"`
	Bytes    int64     `json:"in_bytes"`
	Pending  int64     `json:"pending_bytes"` // what it has yet to read
}

// list reads page after page from all servers at once, until none has more.
func (t *Tracker) list(ctx context.Context) ([]Connection, error) {
	var all []Connection
	for offset := 0; ; offset += listPage {
		pages, err := ask(ctx, t.nc, map[string]any{"acc": wire.AccountDevices, "auth": true, "limit": listPage, "offset": offset})
		if err != nil {
			return nil, err
		}
		more := false
		for _, p := range pages {
			for _, c := range p.Data.Connections {
				if wire.ValidateDeviceID(c.User) == nil {
					all = append(all, Connection{Device: c.User, Server: p.Server.ID, CID: c.CID, Host: c.IP, Since: c.Start})
				}
			}
			more = more || p.Data.Total > offset+listPage
		}
		if !more {
			return all, nil
		}
	}
}

// ask gives the answers of all servers to one question about their connections.
func ask(ctx context.Context, nc *nats.Conn, about map[string]any) ([]connz, error) {
	question, err := json.Marshal(about)
	if err != nil {
		return nil, err
	}
	sub, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := nc.PublishRequest(listSubject, sub.Subject, question); err != nil {
		return nil, err
	}
	var pages []connz
	for {
		wait := ctx
		cancel := context.CancelFunc(func() {})
		if len(pages) > 0 {
			wait, cancel = context.WithTimeout(ctx, listQuiet)
		}
		msg, err := sub.NextMsgWithContext(wait)
		cancel()
		switch {
		case err != nil && len(pages) > 0 && ctx.Err() == nil:
			return pages, nil
		case err != nil:
			return nil, err
		}
		var p connz
		if err := json.Unmarshal(msg.Data, &p); err != nil {
			return nil, fmt.Errorf("decode answer: %w", err)
		}
		if p.Error != nil {
			return nil, errors.New(p.Error.Description)
		}
		pages = append(pages, p)
	}
}

// kick ends one link. That it is gone already is no error.
func (t *Tracker) kick(ctx context.Context, c Connection) error {
	t.count(eventKicked, 1)
	ask, err := json.Marshal(map[string]uint64{"cid": c.CID})
	if err != nil {
		return err
	}
	_, err = t.nc.RequestWithContext(ctx, "$SYS.REQ.SERVER."+c.Server+".KICK", ask)
	if err != nil && !errors.Is(err, nats.ErrNoResponders) { // the server is gone, and the link with it
		return fmt.Errorf("disconnect device %s: %w", c.Device, err)
	}
	return nil
}
