// Package browsertest looks at the dashboard as people do: a real Chromium,
// the built fleet-server, devices played on real NATS connections. What is
// clicked and looked at is in browser.test.mjs; this package starts the parts
// and plays the devices. device.test.mjs looks at a real device; package e2e
// starts that.
package browsertest
