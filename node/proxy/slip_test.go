package proxy

import (
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// A packet that begins a connection while rules change is translated by what held before or by what will hold: whoever connects to a
// Service while an agent starts, or an endpoint comes or goes, is led to an endpoint. What is not translated is counted where
// nobody has refused it yet.
func TestNoConnectionSlipsThroughAChange(t *testing.T) {
	sticky := func(spec *corev1.ServiceSpec) { spec.SessionAffinity = corev1.ServiceAffinityClientIP }
	restart := func(w *world, _ int) {
		w.lengthen("translate")
		w.proxy = New(w.proxy.config)
		w.endNothing()
		w.applyChange(link.NetworkChange{Whole: true})
	}
	for name, tc := range map[string]struct {
		service func(*corev1.ServiceSpec)
		change  func(w *world, i int)
	}{
		"an agent starts":                         {plain, restart},
		"an agent starts, clients keep endpoints": {sticky, restart},
		"endpoints come and go": {plain, func(w *world, i int) {
			if i == 0 {
				w.lengthen("translate", "spread-udp-pods-2")
			}
			w.apply(service(corev1.ProtocolUDP, plain), at(oneIP))
			w.apply(service(corev1.ProtocolUDP, plain), at(oneIP), at(twoIP))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			const times = 25
			w := newWorld(t)
			w.endNothing()
			w.apply(service(corev1.ProtocolUDP, tc.service), at(oneIP), at(twoIP))
			slipped := w.watchUntranslated()
			done := make(chan struct{})
			sent := make(chan int)
			go func() { sent <- w.flood(w.client, netip.MustParseAddrPort(clusterIP+":80"), done) }()
			for i := range times {
				tc.change(w, i)
			}
			close(done)
			if n := <-sent; n < 100*times {
				t.Errorf("only %d packets were sent during %d changes", n, times)
			} else if bad := slipped(); bad > 0 {
				t.Errorf("%d of %d packets were not translated during %d changes", bad, n, times)
			}
		})
	}
}

// lengthen has packets take long on their way through chains, so that many are on it whenever the table changes.
func (w *world) lengthen(chains ...string) {
	table := " ip " + TableName("test") + " "
	commands := "add chain" + table + "detour\n" + strings.Repeat("add rule"+table+"detour meta mark 0x12345678 drop\n", 500)
	for _, chain := range chains {
		commands += strings.Repeat("insert rule"+table+chain+" jump detour\n", 10)
	}
	w.nft(commands)
}

// endNothing has no connections ended: looking through as many as a flood makes would take most of the time.
func (w *world) endNothing() {
	w.proxy.table.end = func(func(flow) bool) (int, error) { return 0, nil }
}

// watchUntranslated counts what arrives at the node for a cluster address and still is for it once it could have been translated.
func (w *world) watchUntranslated() (count func() int) {
	w.t.Helper()
	w.nft("add table ip watch; add chain ip watch in { type filter hook prerouting priority dstnat + 5; }; " +
		"add rule ip watch in ip daddr " + clusterIP + " counter")
	return func() int {
		_, rest, _ := strings.Cut(w.nft("list chain ip watch in"), "counter packets ")
		digits, _, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(digits)
		check(w.t, err)
		return n
	}
}

// nft runs commands of nftables on the node.
func (w *world) nft(commands string) string {
	w.t.Helper()
	var out []byte
	var err error
	w.in(w.node, func() {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(commands)
		out, err = cmd.CombinedOutput()
	})
	if err != nil {
		w.t.Fatalf("%s: %v: %s", commands, err, out)
	}
	return string(out)
}

// flood sends datagrams, each from a port of its own so that each begins a connection, until done, and returns how many.
func (w *world) flood(from netns.NsHandle, to netip.AddrPort, done <-chan struct{}) (sent int) {
	w.in(w.node, func() {
		check(w.t, os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", []byte("1"), 0o644))
	})
	target := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	w.in(from, func() {
		for ; ; sent++ {
			select {
			case <-done:
				return
			default:
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				w.t.Error(err)
				return
			}
			if err := unix.Sendto(fd, []byte("x"), 0, target); err != nil {
				w.t.Error(err)
			}
			unix.Close(fd)
		}
	})
	return sent
}
