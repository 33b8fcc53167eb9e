package broker_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nationtech/fleetctl/internal/wire"
)

// attack is what a stolen device does: raw client r, signed in as id.
type attack struct {
	name string
	run  func(r *raw, id string)
}

// attacks is every trick that is known. Those that once worked are in it with
// the protection that stops them named.
func attacks() []attack {
	var all []attack
	all = append(all, eavesdropping()...)
	all = append(all, forging()...)
	all = append(all, apiCalls()...)
	all = append(all, directGets()...)
	all = append(all, headers()...)
	all = append(all, replies()...)
	all = append(all, limits()...)
	return append(all, protocolTricks()...)
}

// eavesdropping subscribes to what is not the device's, with and without a
// queue group, which would also steal messages.
func eavesdropping() []attack {
	var all []attack
	for _, s := range []string{
		">", "*", "*.>", "*.*", "*.*.*", "*." + victimID, "*." + victimID + ".>",
		"$KV.>", "$KV.*.*.*", "$KV.desired-state.>", "$KV.desired-state.*", "$KV.desired-state." + victimID, "$KV.desired-state." + victimID + ".>",
		"$KV.device-state.>", "$KV.device-state.state.*", "$KV.device-state.state." + victimID, "$KV.device-info.info.*", "$KV.device-heartbeat.heartbeat.*",
		"_INBOX.>", "_INBOX.*", "_INBOX.*.>", "_INBOX.*.*.*", "_INBOX." + victimID + ".>", "_INBOX." + victimID + ".*.*", "_INBOX_operator.>", "_INBOX_api.>",
		"desired.>", "desired.*", "desired." + victimID, "device-commands.>", "device-commands.*.*", "device-commands." + victimID + ".*",
		"device-commands." + victimID + ".ping", "device-commands." + victimID + ".>", "device-replies.>", "device-replies.*.*", "device-replies." + victimID + ".*",
		"_void.>", "_void.desired." + victimID, "_void.device-commands.>",
		"$SYS.>", "$SYS.ACCOUNT.>", "$SYS.ACCOUNT.DEVICES.CONNECT", "$SYS.REQ.>", "$SYS.REQ.USER.AUTH", "$SYS._INBOX.>", "$SYS.SERVER.>",
		"$JS.>", "$JS.API.>", "$JS.EVENT.>", "$JS.EVENT.ADVISORY.>", "$JS.API.DIRECT.GET.>", "$JS.ACK.>", "$JS.FC.>", "$JSC.>",
		"_R_.>", "_GR_.>", "$GR.>", "$GNR.>", "$NRG.>", "$LDS.>", "$NC.>",
	} {
		all = append(all,
			attack{"subscribe " + s, func(r *raw, _ string) { r.sub(s) }},
			attack{"subscribe " + s + " in a queue group", func(r *raw, _ string) { r.sub(s, "workers") }})
	}
	return all
}

// forging publishes where only others may.
func forging() []attack {
	subjects := func(id string) []string {
		var s []string
		for _, b := range wire.Buckets() {
			for _, key := range []string{"x", "*", ">", victimID, victimID + ".web", id + ".web", "state." + victimID, "info." + victimID,
				"heartbeat." + victimID, "state." + id + ".x", "info." + id + ".x", "heartbeat." + id + ".x", "state", "state.*", "state.>", "other." + id} {
				s = append(s, b.Subject(key))
			}
		}
		s = append(s, wire.BucketDesired.Subject(id), // its own desired state
			"$KV.new-bucket."+id, wire.HintSubject(victimID), wire.HintSubject(id), "desired.*", "_void.desired."+victimID,
			wire.CommandSubject(victimID, "ping"), wire.CommandSubject(id, "ping"), "device-commands.*.ping",
			wire.ReplySubject(victimID, "0123456789abcdef"), wire.ReplySubject("*", "x"), "device-replies."+id+".x.y", "device-replies.>",
			"_INBOX."+victimID+".x", "_INBOX."+victimID+".x.y", "_INBOX_operator.x", "_INBOX_api.x", "_INBOX_callout.x",
			"$SYS.ACCOUNT.DEVICES.CONNECT", "$SYS.ACCOUNT.DEVICES.DISCONNECT", "$SYS.REQ.USER.AUTH", "$SYS.REQ.USER.INFO",
			"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.JSZ", "$SYS.REQ.SERVER.PING.KICK", "$SYS.REQ.ACCOUNT.FLEET.CONNZ",
			"$SYS.REQ.ACCOUNT.DEVICES.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.STATZ", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.DEVICES.SUBSZ",
			"$SYS._INBOX.x", "$JS.ACK.KV_device-state.c.1.1.1.1.1", "$JS.FC.KV_device-state.c.x", "_R_.x.y", "_GR_.x.y.z", "$NRG.x")
		return s
	}
	var all []attack
	for i, s := range subjects("ID") {
		all = append(all, attack{"publish " + s, func(r *raw, id string) {
			for _, payload := range []string{"", "forged", `{"acc":"DEVICES","cid":1}`} {
				r.pub(subjects(id)[i], "_INBOX."+id+".r", payload)
			}
		}})
	}
	return all
}

// apiCalls asks JetStream's API for all that it can do, in every form.
func apiCalls() []attack {
	var all []attack
	call := func(subject string, payload any) {
		data, err := json.Marshal(payload)
		if err != nil {
			panic(err)
		}
		all = append(all, attack{"JetStream " + subject + " " + string(data), func(r *raw, id string) {
			r.sub("_INBOX." + id + ".>")
			r.pub("$JS.API."+subject, "_INBOX."+id+".r", string(data))
			r.pub("$JS.hub.API."+subject, "_INBOX."+id+".r", string(data)) // a domain's prefix
		}})
	}
	type m = map[string]any
	for _, s := range []string{"INFO", "STREAM.NAMES", "STREAM.LIST", "ACCOUNT.PURGE.FLEET", "META.LEADER.STEPDOWN", "SERVER.REMOVE", "ACCOUNT.STREAM.MOVE.FLEET.KV_device-state"} {
		call(s, nil)
	}
	call("STREAM.CREATE.evil", m{"name": "evil", "subjects": []string{"desired.>"}})
	for _, b := range wire.Buckets() {
		s, v := b.Stream(), b.Subject(">")
		call("STREAM.CREATE."+s, m{"name": s, "subjects": []string{v}, "allow_rollup_hdrs": true})
		call("STREAM.UPDATE."+s, m{"name": s, "subjects": []string{v}, "allow_rollup_hdrs": true})
		call("STREAM.INFO."+s, m{"subjects_filter": ">", "deleted_details": true})
		call("STREAM.PURGE."+s, nil)
		call("STREAM.PURGE."+s, m{"filter": v, "keep": 0})
		call("STREAM.DELETE."+s, nil)
		call("STREAM.MSG.GET."+s, m{"seq": 1})
		call("STREAM.MSG.GET."+s, m{"last_by_subj": v})
		call("STREAM.MSG.DELETE."+s, m{"seq": 1, "no_erase": false})
		call("STREAM.SNAPSHOT."+s, m{"deliver_subject": "_INBOX.x.y"})
		call("STREAM.RESTORE."+s, m{"config": m{"name": s}})
		call("STREAM.LEADER.STEPDOWN."+s, nil)
		call("STREAM.PEER.REMOVE."+s, m{"peer": "fleet-server"})
		consumer := m{"stream_name": s, "config": m{"deliver_subject": wire.HintSubject(victimID), "deliver_policy": "all", "ack_policy": "none"}}
		named := m{"stream_name": s, "config": m{"name": "c", "deliver_policy": "all", "ack_policy": "none", "filter_subject": v}}
		call("CONSUMER.CREATE."+s, consumer)
		call("CONSUMER.CREATE."+s+".c", named)
		call("CONSUMER.CREATE."+s+".c."+v, named)
		call("CONSUMER.DURABLE.CREATE."+s+".c", m{"stream_name": s, "config": m{"durable_name": "c", "ack_policy": "explicit"}})
		for _, verb := range []string{"NAMES", "LIST"} {
			call("CONSUMER."+verb+"."+s, nil)
		}
		for _, verb := range []string{"INFO", "DELETE", "PAUSE", "RESET", "UNPIN", "MSG.NEXT", "LEADER.STEPDOWN"} {
			call("CONSUMER."+verb+"."+s+".c", nil)
		}
	}
	return all
}

// directGets asks for others' values by each form of the request, also inside
// a request on the subject that the device may use.
func directGets() []attack {
	var all []attack
	bodies := []string{"", `{"seq":1}`, `{"seq":1,"batch":1000}`, `{"batch":1000,"max_bytes":100000,"next_by_subj":">"}`, `{"next_by_subj":"$KV.desired-state.>"}`}
	for _, b := range wire.Buckets() {
		for _, key := range []string{victimID, "state." + victimID, "info." + victimID, "heartbeat." + victimID, ">"} {
			bodies = append(bodies, fmt.Sprintf(`{"last_by_subj":%q}`, b.Subject(key)),
				fmt.Sprintf(`{"multi_last":[%q]}`, b.Subject(key)), fmt.Sprintf(`{"multi_last":[%q],"up_to_seq":1000,"batch":1000}`, b.Subject(key)))
		}
	}
	ask := func(name string, subject func(id string) string) {
		all = append(all, attack{"direct get " + name, func(r *raw, id string) {
			r.sub("_INBOX." + id + ".>")
			for _, body := range bodies {
				r.pub(subject(id), "_INBOX."+id+".r", body)
			}
		}})
	}
	for _, b := range wire.Buckets() {
		for _, key := range []string{victimID, victimID + ".web", "state." + victimID, "info." + victimID, "heartbeat." + victimID, "*", ">", "*.web"} {
			ask(b.DirectGetSubject(key), func(string) string { return b.DirectGetSubject(key) })
		}
		ask("by body from "+b.Stream(), func(string) string { return "$JS.API.DIRECT.GET." + b.Stream() })
	}
	own := wire.BucketDesired.DirectGetSubject
	ask("of the own key with a body", func(id string) string { return own(id) })
	ask("of an own deployment with a body", func(id string) string { return own(id + ".web") })
	ask("of the own wildcard", func(id string) string { return own(id + ".>") })
	ask("of the own star", func(id string) string { return own(id + ".*") })
	ask("with a subject behind the own key", func(id string) string { return own(id + "." + wire.BucketDesired.Subject(victimID)) })
	return all
}

// headers are those that JetStream and the server act on, on the key that the
// device may write. A roll-up wiped the bucket before roll-up was off.
func headers() []attack {
	sets := [][]string{
		{"Nats-Rollup: all"}, {"Nats-Rollup: sub"}, {"KV-Operation: PURGE", "Nats-Rollup: sub"}, {"KV-Operation: DEL"},
		{"Nats-Msg-Id: 1"}, {"Nats-Msg-Id: " + victimID},
		{"Nats-Expected-Last-Sequence: 0"}, {"Nats-Expected-Last-Sequence: 999"}, {"Nats-Expected-Last-Subject-Sequence: 0"},
		{"Nats-Expected-Last-Subject-Sequence: 1", "Nats-Expected-Last-Subject-Sequence-Subject: $KV.device-state.state." + victimID},
		{"Nats-Expected-Last-Subject-Sequence: 0", "Nats-Expected-Last-Subject-Sequence-Subject: >"},
		{"Nats-Expected-Last-Msg-Id: x"}, {"Nats-Expected-Stream: KV_device-info"},
		{"Nats-TTL: 1s"}, {"Nats-TTL: never"}, {"Nats-Marker-Reason: MaxAge"}, {"Nats-Marker-Reason: Purge"},
		{"Nats-Schedule: @every 1s", "Nats-Schedule-Target: $KV.device-state.state." + victimID},
		{"Nats-Schedule: @at 2020-01-01T00:00:00Z", "Nats-Schedule-Target: $KV.device-state.state." + victimID, "Nats-Schedule-TTL: 1s"},
		{"Nats-Schedule: @every 1s", "Nats-Schedule-Target: desired." + victimID, "Nats-Schedule-Source: $KV.device-state.state." + victimID, "Nats-Schedule-Rollup: sub"},
		{"Nats-Schedule-Next: purge", "Nats-Scheduler: $KV.device-state.state." + victimID},
		{"Nats-Batch-Id: b", "Nats-Batch-Sequence: 1"}, {"Nats-Batch-Id: b", "Nats-Batch-Sequence: 1", "Nats-Batch-Commit: 1"}, {"Nats-Fast-Batch-Id: b"},
		{"Nats-Incr: +1"}, {"Nats-Counter-Sources: {}"}, {"Nats-Required-Api-Level: 99"}, {"Nats-Pin-Id: x"},
		{"Nats-Subject: $KV.device-state.state." + victimID}, {"Nats-Stream: KV_device-info", "Nats-Sequence: 1"}, {"Nats-Stream-Source: KV_device-info 1"},
		{"Nats-Last-Sequence: 1", "Nats-UpTo-Sequence: 1"}, {"Nats-Request-Info: {\"acc\":\"FLEET\"}"}, {"Nats-Confirm-Commit: 1"},
		{"Status: 404"}, {"Status: 503"}, {"Status: 408"}, {"Status: 409", "Description: Consumer Deleted"},
		{"Status: 100", "Description: Idle Heartbeat", "Nats-Last-Consumer: 999", "Nats-Last-Stream: 999"},
		{"Status: 100", "Description: Idle Heartbeat", "Nats-Consumer-Stalled: $KV.desired-state." + victimID},
		{"Status: 100", "Description: FlowControl Request"}, {"Nats-Pending-Messages: 0", "Nats-Pending-Bytes: 0"},
		{"Nats-Sequence: x", "Nats-Time-Stamp: x", "Nats-Stream: x", "Nats-Subject: x"}, {"Nats-Applied-Limit: 1"}, {"Nats-Sourcing-Account: FLEET"},
	}
	for _, dest := range []string{"desired." + victimID, "device-commands." + victimID + ".ping", "$KV.device-state.state." + victimID,
		"_INBOX." + victimID + ".x", "device-replies." + victimID + ".0123456789abcdef", "$SYS.REQ.SERVER.PING"} {
		sets = append(sets, []string{"Nats-Trace-Dest: " + dest}, []string{"Nats-Trace-Dest: " + dest, "Nats-Trace-Only: true"},
			[]string{"Nats-Trace-Dest: " + dest, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
	}
	var all []attack
	for _, set := range sets {
		all = append(all, attack{"header " + strings.Join(set, ", "), func(r *raw, id string) {
			r.sub("_INBOX." + id + ".>")
			for _, subject := range ownSubjects(id) {
				r.pub(subject, "_INBOX."+id+".r", "payload", set...)
				r.pub(subject, "_INBOX."+id+".r", "", set...)
			}
		}})
	}
	return all
}

// ownSubjects is everything that a device may publish on.
func ownSubjects(id string) []string {
	return []string{
		wire.BucketState.Subject(wire.StateKey(id)), wire.BucketInfo.Subject(wire.InfoKey(id)), wire.BucketHeartbeat.Subject(wire.HeartbeatKey(id)),
		wire.BucketDesired.DirectGetSubject(id), wire.BucketDesired.DirectGetSubject(id + ".web"), wire.BucketDesired.DirectGetSubject(id + ".>"),
		wire.ReplySubject(id, "0123456789abcdef"),
	}
}

// replies names others' subjects as the reply of requests that the device may
// make: nobody checks a reply's subject. Mappings and imports without a
// literal subject stop it.
func replies() []attack {
	var all []attack
	for _, reply := range []string{
		"desired." + victimID, "device-commands." + victimID + ".ping", "device-replies." + victimID + ".0123456789abcdef",
		"_INBOX." + victimID + ".guess", "_INBOX." + victimID + ".guess.1", "_INBOX_operator.guess", "_INBOX_api.guess", "_INBOX_callout.guess",
		"$KV.desired-state." + victimID, "$KV.desired-state." + victimID + ".web", "$KV.device-state.state." + victimID, "$KV.device-info.info." + victimID,
		"$KV.device-heartbeat.heartbeat." + victimID, "$KV.device-state.new", "$JS.API.STREAM.PURGE.KV_device-state", "$JS.API.STREAM.DELETE.KV_device-info",
		"$JS.API.STREAM.INFO.KV_device-state", "$JS.API.CONSUMER.CREATE.KV_device-state", "$JS.API.DIRECT.GET.KV_device-state", "$JS.API.DIRECT.GET.KV_desired-state.$KV.desired-state." + victimID,
		"$JS.ACK.KV_device-state.c.1.1.1.1.1", "$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.USER.AUTH", "$SYS.ACCOUNT.DEVICES.DISCONNECT", "$SYS._INBOX.x",
		"_R_.x.y", "_GR_.x.y.z", "*", ">", "desired.*", "_INBOX." + victimID + ".>",
	} {
		all = append(all, attack{"reply to " + reply, func(r *raw, id string) {
			for _, subject := range ownSubjects(id) {
				r.pub(subject, reply, "payload")
				r.pub(subject, reply, "")
				r.pub(subject, reply, "x", "Status: 503")
			}
		}})
	}
	return all
}

// limits goes beyond sizes and numbers.
func limits() []attack {
	fill := func(n int) string { return strings.Repeat("A", n) }
	return []attack{
		{"a state of 64 KiB + 1", func(r *raw, id string) { r.pub(ownSubjects(id)[0], "_INBOX."+id+".r", fill(64<<10+1)) }},
		{"an info of 16 KiB + 1", func(r *raw, id string) { r.pub(ownSubjects(id)[1], "_INBOX."+id+".r", fill(16<<10+1)) }},
		{"a heartbeat of 4 KiB + 1", func(r *raw, id string) { r.pub(ownSubjects(id)[2], "_INBOX."+id+".r", fill(4<<10+1)) }},
		{"a payload of 128 KiB + 1", func(r *raw, id string) { r.pub(ownSubjects(id)[0], "", fill(128<<10+1)) }},
		{"a payload of 1 GiB announced", func(r *raw, id string) { r.send("PUB " + ownSubjects(id)[0] + " 1073741824\r\n") }},
		{"a control line without end", func(r *raw, _ string) { r.send("PUB " + fill(1<<20)) }},
		{"headers alone beyond the limit", func(r *raw, id string) { r.pub(ownSubjects(id)[2], "", "", "X: "+fill(64<<10)) }},
		{"10,000 subscriptions", func(r *raw, id string) {
			for i := range 10_000 {
				r.sub(fmt.Sprintf("_INBOX.%s.%d", id, i))
			}
		}},
		{"the largest state, 500 times", func(r *raw, id string) {
			for range 500 {
				r.pub(ownSubjects(id)[0], "", fill(64<<10-1))
			}
		}},
		{"answers to nobody, 5,000 times", func(r *raw, id string) {
			for i := range 5_000 {
				r.pub(wire.ReplySubject(id, fmt.Sprint(i)), "", "x")
			}
		}},
	}
}

// protocolTricks breaks the rules of the client protocol.
func protocolTricks() []attack {
	lines := map[string]string{
		"second CONNECT as the victim":     connectLine(password(victimID, "x")),
		"second CONNECT into FLEET":        `CONNECT {"account":"FLEET","user":"operator"}` + "\r\n",
		"route protocol RMSG":              "RMSG FLEET $KV.device-state.state." + victimID + " 6\r\nforged\r\n",
		"route protocol RS+":               "RS+ FLEET >\r\n",
		"leaf protocol LMSG":               "LMSG $KV.device-state.state." + victimID + " 6\r\nforged\r\n",
		"leaf protocol LS+":                "LS+ >\r\n",
		"gateway protocol A+":              "A+ FLEET\r\n",
		"server protocol INFO":             `INFO {"server_id":"x","connect_urls":["127.0.0.1:1"]}` + "\r\n",
		"server protocol MSG":              "MSG desired." + victimID + " 1 6\r\nforged\r\n",
		"negative size":                    "PUB desired." + victimID + " -1\r\n\r\n",
		"header size beyond total":         "HPUB desired." + victimID + " 99 1\r\nx\r\n",
		"subject with a tab and a newline": "PUB desired." + victimID + "\t\n 6\r\nforged\r\n",
		"nothing but noise":                "\x00\xff\x16\x03\x01\r\n\r\n",
	}
	var all []attack
	for name, line := range lines {
		all = append(all, attack{name, func(r *raw, _ string) { r.send(line) }})
	}
	return all
}
