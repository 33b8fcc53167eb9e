package issuer_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/nationtech/fleetctl/internal/issuer"
)

func contextWithin(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// BenchmarkMint is a machine's token over TLS: one request, with the machine's
// own signature in it, as thousands of devices make after a restart.
func BenchmarkMint(b *testing.B) {
	f := start(b)
	f.person("root", issuer.RoleAdmin)
	m := f.enrol(f.signIn("root").AccessToken, "pi", machineKeys()[0])
	b.ResetTimer()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got := f.mint(f.assertion(m, nil)); got.Status != http.StatusOK {
				b.Errorf("%+v", got)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}
