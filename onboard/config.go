package onboard

import "github.com/nationtech/fleetctl/internal/deviceconfig"

func (d *Device) config() deviceconfig.Wish {
	return deviceconfig.Wish{
		DeviceID: d.ID, Labels: d.Labels, NATSURLs: d.Enrolment.NATSURLs, CAPEM: d.Enrolment.CAPEM,
		Issuer: d.Enrolment.Issuer, InsecureRegistries: d.InsecureRegistries, MetricsListen: d.MetricsListen,
	}
}

// ConfigText is the device's configuration file.
func (d *Device) ConfigText() (string, error) { return d.config().Text() }
