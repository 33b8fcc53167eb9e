//go:build cgo && libvirt_dlopen

package libvirt

import (
	"errors"

	"libvirt.org/go/libvirt"
)

// plain drops the codes that libvirt's Go binding wraps a message in.
func plain(err error) error {
	if e := (libvirt.Error{}); errors.As(err, &e) && e.Message != "" {
		return errors.New(e.Message)
	}
	return err
}

// is says whether libvirt's error has one of the codes.
func is(err error, codes ...libvirt.ErrorNumber) bool {
	var e libvirt.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.Code == code {
			return true
		}
	}
	return false
}
