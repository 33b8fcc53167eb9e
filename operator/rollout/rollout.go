// Package rollout decides which device of a Deployment gets which revision.
package rollout
