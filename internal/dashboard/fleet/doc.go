// Package fleet is the dashboard's picture of the fleet: every Device and
// Deployment, kept current by watching the Kubernetes API, in the shape that
// pages ask for. It writes nothing and knows no HTML.
package fleet
