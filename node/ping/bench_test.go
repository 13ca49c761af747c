package ping

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkMinute tells what asking other nodes costs, in seconds of a core for a minute of it. They are asked twice a second
// as node/routing does it, which for more than a hundred takes longer between. They are addresses of this host, so what it costs to answer
// is in it, too.
func BenchmarkMinute(b *testing.B) {
	const rounds = 120 // in a minute
	for _, peers := range []int{3, 100} {
		b.Run(fmt.Sprint("peers=", peers), func(b *testing.B) {
			p, err := Open()
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			var hosts []netip.Addr
			for host := netip.MustParseAddr("127.0.0.1"); len(hosts) < peers; host = host.Next() {
				hosts = append(hosts, host)
			}
			before := processorTime(b)
			for b.Loop() {
				// The wait costs nothing, so it is cut short.
				if answered, err := p.Round(context.Background(), hosts, 20*time.Millisecond); err != nil || len(answered) != peers {
					b.Fatalf("%d of %d answered, %v", len(answered), peers, err)
				}
			}
			b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N)*rounds, "cpu-s/min")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
