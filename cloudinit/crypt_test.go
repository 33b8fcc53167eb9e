package cloudinit

import (
	"strings"
	"testing"
)

// As glibc's crypt(3) has it.
func TestSHA512CryptVectors(t *testing.T) {
	const want = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
	if got := sha512Crypt([]byte("Hello world!"), []byte("saltstring")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestHashPasswordSaltsAnew(t *testing.T) {
	one, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	two, err := HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	if one == two || !strings.HasPrefix(one, "$6$") || len(one) != len("$6$")+saltLength+1+86 {
		t.Errorf("hashes %q and %q", one, two)
	}
}
