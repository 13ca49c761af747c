// Package ping finds out which hosts answer an ICMP echo: the kernel answers it, so a host whose agent is down or busy still
// does. It decides nothing by that. Start at Pinger.Round.
package ping

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

const (
	protocolICMP = 1 // as package icmp asks for it
	replyBytes   = 64
)

// Pinger sends echoes and takes in answers. Its methods must not be called at the same time.
type Pinger struct {
	conn *icmp.PacketConn
	id   int // tells our answers from those to others on this host
	seq  int
}

// Open needs the right to use raw sockets. Close it after use.
func Open() (*Pinger, error) {
	conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("open a socket for ICMP: %w", err)
	}
	var answers ipv4.ICMPFilter
	answers.SetAll(true)
	answers.Accept(ipv4.ICMPTypeEchoReply)
	if err := conn.IPv4PacketConn().SetICMPFilter(&answers); err != nil {
		conn.Close()
		return nil, fmt.Errorf("filter ICMP: %w", err)
	}
	return &Pinger{conn: conn, id: 1 + rand.IntN(1<<16-1)}, nil
}

// Close frees the socket.
func (p *Pinger) Close() error { return p.conn.Close() }

// Round sends one echo to each host, and returns after wait those that have answered since the last round, be it late. A host
// to which nothing can be sent has not answered. What is not IPv4 is not asked.
func (p *Pinger) Round(ctx context.Context, hosts []netip.Addr, wait time.Duration) (map[netip.Addr]bool, error) {
	if err := p.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	ended := context.AfterFunc(ctx, func() { _ = p.conn.SetReadDeadline(time.Now()) })
	defer ended()
	p.seq++
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: p.id, Seq: p.seq & 0xffff}}
	raw, err := message.Marshal(nil)
	if err != nil {
		return nil, fmt.Errorf("encode an ICMP echo: %w", err)
	}
	for _, host := range hosts {
		if host.Is4() {
			_, _ = p.conn.WriteTo(raw, &net.IPAddr{IP: host.AsSlice()}) // an error is the answer that it cannot be reached
		}
	}
	return p.collect()
}

// collect takes in answers until the deadline.
func (p *Pinger) collect() (map[netip.Addr]bool, error) {
	answered := map[netip.Addr]bool{}
	buf := make([]byte, replyBytes)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answered, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read answers to ICMP echoes: %w", err)
		}
		message, err := icmp.ParseMessage(protocolICMP, buf[:n])
		if err != nil {
			continue // not an answer to anything of ours
		}
		if echo, ok := message.Body.(*icmp.Echo); ok && echo.ID == p.id {
			if host, ok := netip.AddrFromSlice(from.(*net.IPAddr).IP); ok {
				answered[host.Unmap()] = true
			}
		}
	}
}
