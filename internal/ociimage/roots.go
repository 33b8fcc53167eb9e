package ociimage

import (
	"bytes"
	"encoding/pem"
	"fmt"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// roots are Mozilla's authorities as Debian's ca-certificates writes them: an
// image without any trusts no issuer and no NATS server with a public
// certificate. They are those of a module, and so the same in every build. An
// authority that is to be trusted with exceptions is left out: the file has no
// way to write those.
func roots() ([]byte, error) {
	var all bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		if err := pem.Encode(&all, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}); err != nil {
			return nil, fmt.Errorf("encode authorities: %w", err)
		}
	}
	return all.Bytes(), nil
}
