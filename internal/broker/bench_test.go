package broker_test

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// BenchmarkConnect is one device that connects over TLS and through the
// callout, 64 at a time; clients and server share the machine.
func BenchmarkConnect(b *testing.B) {
	const parallel = 64
	f := newFleet(b)
	ids := make(chan string, parallel)
	var wg sync.WaitGroup
	b.ResetTimer()
	began := time.Now()
	for range parallel {
		wg.Go(func() {
			for id := range ids {
				d, err := f.dial(id)
				if err != nil {
					b.Error(err)
					continue
				}
				d.nc.Close()
			}
		})
	}
	for i := range b.N {
		ids <- fmt.Sprintf("pi-%d", i)
	}
	close(ids)
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "connects/s")
}
