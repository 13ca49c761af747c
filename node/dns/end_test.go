package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// waiting is a listener of a server that has ended before it read anything, and is asked by so many clients of each protocol.
func waiting(t *testing.T, address string, clients int) (l *listener, udp, tcp []*dns.Conn) {
	t.Helper()
	l, err := listen(t.Context(), netip.MustParseAddrPort(address))
	check(t, err)
	for range clients {
		for _, network := range []string{"udp", "tcp"} {
			raw, err := net.Dial(network, address)
			check(t, err)
			t.Cleanup(func() { raw.Close() })
			conn := &dns.Conn{Conn: raw}
			check(t, conn.WriteMsg(query("A", "web.shop.svc.cluster.local.")))
			if network == "udp" {
				udp = append(udp, conn)
			} else {
				tcp = append(tcp, conn)
			}
		}
	}
	return l, udp, tcp
}

func TestWhatWasAskedBeforeTheEndIsAnswered(t *testing.T) {
	s := New(Config{Node: "me", ResolvConf: noServers(t), Log: slog.New(slog.DiscardHandler)})
	check(t, s.Apply(t.Context(), example(), link.NetworkChange{Whole: true}))
	address := fmt.Sprintf("127.77.6.1:%d", freePort(t, "127.77.6.1"))
	l, udp, tcp := waiting(t, address, 100)
	ended, end := context.WithCancel(t.Context())
	end()
	check(t, l.run(ended, s, nil))
	for protocol, conns := range map[string][]*dns.Conn{"udp": udp, "tcp": tcp} {
		for i, conn := range conns {
			check(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
			if m, err := conn.ReadMsg(); err != nil || len(m.Answer) != 1 {
				t.Fatalf("%s: question %d of %d: %v, %v", protocol, i, len(conns), m, err)
			}
		}
	}
}

// TestNoQuestionIsLostWhenServersComeAndGo wants an answer or a refusal for each: silence is what clients wait for.
func TestNoQuestionIsLostWhenServersComeAndGo(t *testing.T) {
	s, n := New(Config{Node: "me", ResolvConf: noServers(t), Port: freePort(t, "127.77.7.1"), Log: slog.New(slog.DiscardHandler)}), example()
	n.Peers["me"] = link.Peer{Name: "me", PodCIDR: "127.77.7.0/24"}
	check(t, s.Apply(t.Context(), n, link.NetworkChange{Whole: true}))
	address := fmt.Sprintf("127.77.7.1:%d", s.config.Port)
	asking, enough := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var refused atomic.Int64
	answered := make(chan struct{})
	for range 16 {
		clients.Go(func() {
			client := &dns.Client{Timeout: 30 * time.Second}
			for asking.Err() == nil {
				_, _, err := client.Exchange(query("A", "web.shop.svc.cluster.local."), address)
				switch {
				case err == nil:
					select {
					case answered <- struct{}{}:
					default:
					}
				case errors.Is(err, syscall.ECONNREFUSED):
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		ctx, stop := context.WithCancel(t.Context())
		go func() {
			defer stop()
			for range 100 {
				<-answered
			}
		}()
		check(t, s.Run(ctx))
	}
	enough()
	clients.Wait()
	if refused.Load() == 0 {
		t.Error("there was always a server")
	}
}
