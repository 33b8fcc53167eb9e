package wire

import (
	"strconv"
	"strings"
	"testing"
)

func TestDecodePodmanV0Refuses(t *testing.T) {
	service := func(more string) string { return `{"services":[{"name":"web","image":"nginx"` + more + `}]}` }
	for data, want := range map[string]string{
		`{}`:                                     "at least one",
		`{"services":[]}`:                        "at least one",
		`{"services":[{}]}`:                      "service name",
		`{"services":[{"name":"a","image":""}]}`: "image",
		`{"services":[{"name":"a","image":"A b"}]}`:                         "image",
		service(`,"imagee":"x"`):                                            "unknown field",
		service(`,"ports":["80"]`):                                          "has no host port",
		service(`,"ports":["80:x"]`):                                        "container port",
		service(`,"ports":["0:80"]`):                                        "host port between",
		service(`,"ports":["80:65536"]`):                                    "container port",
		service(`,"ports":["80:80/sctp"]`):                                  "unknown protocol",
		service(`,"ports":["x:80:80"]`):                                     "IP address",
		service(`,"ports":["80:80","80:81"]`):                               "already taken",
		service(`,"env":[{"name":"A=B"}]`):                                  "no variable name",
		service(`,"volumes":[{"hostPath":"a","containerPath":"/b"}]`):       "clean absolute path",
		service(`,"volumes":[{"hostPath":"/a/../b","containerPath":"/b"}]`): "clean absolute path",
		service(`,"restartPolicy":"sometimes"`):                             "restartPolicy",
		service(`,"stopTimeout":"-1s"`):                                     "stopTimeout",
		service(`,"stopTimeout":5`):                                         "duration",
		`{"services":[{"name":"a","image":"b"},{"name":"a","image":"b"}]}`:  "used twice",
	} {
		_, err := DecodePodmanV0([]byte(data))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", data, err, want)
		}
	}
}

func TestParsePort(t *testing.T) {
	for in, want := range map[string]string{
		"8080:80":           ":8080->80/tcp",
		"53:53/udp":         ":53->53/udp",
		"127.0.0.1:8080:80": "127.0.0.1:8080->80/tcp",
		"[::1]:8080:80":     "::1:8080->80/tcp",
	} {
		p, err := ParsePort(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		got := ""
		if p.HostIP.IsValid() {
			got = p.HostIP.String()
		}
		got += ":" + strconv.Itoa(int(p.HostPort)) + "->" + strconv.Itoa(int(p.ContainerPort)) + "/" + p.Protocol
		if got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
