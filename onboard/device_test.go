package onboard

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/nationtech/fleetctl/hostcfg"
	"github.com/nationtech/fleetctl/internal/deviceconfig"
)

func example() *Device {
	return &Device{
		ID:                 "pi-1",
		Labels:             map[string]string{"site": "lyon", "topology.example.com/row": "3"},
		InsecureRegistries: []string{"192.0.2.1:5000", "192.0.2.1:5000", "127.0.0.1:5000"},
		HostEntries: []HostEntry{
			{Name: "fleet.example.com", IP: netip.MustParseAddr("192.0.2.9")},
			{Name: "a.example.com", IP: netip.MustParseAddr("2001:db8::1")},
		},
		AgentVersion: "v0.1.0-3-gabcdef",
		Enrolment: Enrolment{
			NATSURLs: []string{"tls://fleet.example.com:4222"}, CAPEM: "-----BEGIN CERTIFICATE-----\n",
			SigningKeys: []byte(`{"schemaVersion":1,"keys":[]}`), PSK: "the-psk",
		},
	}
}

// The golden file is also what the agent's strict parser is tried on, in
// package e2e.
func TestConfigText(t *testing.T) {
	withIssuer := example()
	withIssuer.Enrolment.PSK, withIssuer.MetricsListen = "", "127.0.0.1:9464"
	withIssuer.Enrolment.Issuer = Issuer{URL: "https://fleet.example.com:8443", Project: "310000000000000001", CAPEM: withIssuer.Enrolment.CAPEM}
	for file, d := range map[string]*Device{"config.toml": example(), "config-oidc.toml": withIssuer} {
		want, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.ConfigText()
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got:\n%s\nwant:\n%s", file, got, want)
		}
		if _, err := d.Resources(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// An issuer has an authority of its own, the broker's, or a public one.
func TestIssuersAuthority(t *testing.T) {
	for ca, want := range map[string]string{"": "", "-----BEGIN CERTIFICATE-----\n": deviceconfig.CAFile, "another": deviceconfig.IssuerCAFile} {
		d := example()
		d.Enrolment.Issuer = Issuer{URL: "https://id.example.com", Project: "1", CAPEM: ca}
		if got := d.config().IssuerCA(); got != want {
			t.Errorf("authority %q is in %q, want %q", ca, got, want)
		}
	}
}

func TestUnitIsWellFormed(t *testing.T) {
	if err := hostcfg.CheckUnitFile(unitText); err != nil {
		t.Error(err)
	}
}

func TestHostsLinesDoNotDependOnOrder(t *testing.T) {
	d := example()
	want := "192.0.2.9\tfleet.example.com\n2001:db8::1\ta.example.com\n"
	if got := d.hostsLines(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	d.HostEntries[0], d.HostEntries[1] = d.HostEntries[1], d.HostEntries[0]
	if got := d.hostsLines(); got != want {
		t.Errorf("in the other order: got %q, want %q", got, want)
	}
}

func TestParseHostEntry(t *testing.T) {
	for in, want := range map[string]string{
		"fleet=192.0.2.1":            "",
		"Fleet.Example.COM=::1":      "",
		"fleet":                      "not NAME=IP",
		"=192.0.2.1":                 "no host name",
		"a b=192.0.2.1":              "no host name",
		"a\nb=192.0.2.1":             "no host name",
		"-a=192.0.2.1":               "no host name",
		"fleet=192.0.2":              "no IP address",
		"fleet=fe80::1%eth0":         "no IP address",
		"fleet=192.0.2.1 evil.local": "no IP address",
	} {
		_, err := ParseHostEntry(in)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", in, err, want)
		}
	}
}

func TestResourcesRefuse(t *testing.T) {
	for name, spoil := range map[string]func(*Device){
		"id":         func(d *Device) { d.ID = "Pi_1" },
		"label":      func(d *Device) { d.Labels["a b"] = "c" },
		"version":    func(d *Device) { d.AgentVersion = "../../etc" },
		"no URL":     func(d *Device) { d.Enrolment.NATSURLs = nil },
		"no secret":  func(d *Device) { d.Enrolment.PSK = "" },
		"no signers": func(d *Device) { d.Enrolment.SigningKeys = nil },
	} {
		d := example()
		spoil(d)
		if _, err := d.Resources(); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestSecretDoesNotShow(t *testing.T) {
	d := example()
	if text := fmt.Sprintf("%v %+v %#v %s", d, d, d.Enrolment, d.Enrolment.PSK); strings.Contains(text, "the-psk") {
		t.Error("the secret shows: " + text)
	}
}

func TestCheckNamesEveryReason(t *testing.T) {
	err := check(&hostcfg.Facts{Init: "init", Machine: "riscv64", MemoryBytes: 64 << 20})
	for _, want := range []string{"needs systemd", "riscv64", "package manager", "64 MiB"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

func TestDeviceID(t *testing.T) {
	for _, tc := range []struct{ asked, hostname, want string }{
		{"gate", "raspberrypi", "gate"},
		{"", "raspberrypi", "raspberrypi"},
		{"", "My_Pi", ""},
		{"a.b", "raspberrypi", ""},
		{"*", "x", ""},
	} {
		got, err := deviceID(tc.asked, tc.hostname)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("deviceID(%q, %q) = %q, %v", tc.asked, tc.hostname, got, err)
		}
	}
}
