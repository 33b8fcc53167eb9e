// Package assets owns the things that are downloaded or generated, then
// verified and cached: cloud images and SSH keys. It knows where they come
// from and what they must hash to; what is done with them is its callers'
// affair.
package assets
