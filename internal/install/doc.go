// Package install is the fleet's control plane on a Kubernetes cluster: which
// objects it is made of, how they are applied, looked at and removed. Objects
// are typed Go; what `fleetctl server install` applies, what --print shows and
// what the Helm chart holds comes from the same functions. It does not run the
// parts (fleet-server does), and asks nobody anything.
package install
