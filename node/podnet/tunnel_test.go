package podnet

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// What does not fit through the tunnel arrives all the same: the first segments of TCP are small enough, datagrams are cut, and
// who must not have them cut is told the size.
func TestTunnelTakesLargePackets(t *testing.T) {
	_, a, _, c := threeHosts(t)
	podA, _ := a.plug(t, "a")
	podC, ipC := c.plug(t, "c")
	echo(t, podC.ns)
	to := netip.AddrPortFrom(ipC, 7).String()

	t.Run("TCP", func(t *testing.T) {
		conn := dial(t, podA.ns, "tcp4", to)
		if got := option(t, conn, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG); got > defaultMTU-tunnelOverhead-40 {
			t.Errorf("segments of %d bytes from the start, which do not fit", got)
		}
		roundTrip(t, conn, 1<<20)
	})
	t.Run("large datagram", func(t *testing.T) { roundTrip(t, dial(t, podA.ns, "udp4", to), 8000) })
	t.Run("datagram that must not be cut", func(t *testing.T) {
		conn := dial(t, podA.ns, "udp4", to)
		setOption(t, conn, syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_DO)
		for deadline := time.Now().Add(dialTimeout); ; {
			_, err := conn.Write(make([]byte, defaultMTU-28))
			if errors.Is(err, syscall.EMSGSIZE) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("nobody said that it is too large (%v)", err)
			}
		}
		if got := option(t, conn, syscall.IPPROTO_IP, syscall.IP_MTU); got != defaultMTU-tunnelOverhead {
			t.Errorf("path MTU %d, want %d", got, defaultMTU-tunnelOverhead)
		}
	})
}

// echo sends back what it gets on port 7 by TCP and UDP.
func echo(t testing.TB, ns string) {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	in(t, ns, func() {
		var err error
		listener, err = net.Listen("tcp4", ":7")
		check(t, err)
		packets, err = net.ListenPacket("udp4", ":7")
		check(t, err)
	})
	t.Cleanup(func() { listener.Close(); packets.Close() })
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	go func() {
		buffer := make([]byte, 64<<10)
		for n, from, err := packets.ReadFrom(buffer); err == nil; n, from, err = packets.ReadFrom(buffer) {
			packets.WriteTo(buffer[:n], from)
		}
	}()
}

func dial(t testing.TB, ns, network, address string) (conn net.Conn) {
	t.Helper()
	in(t, ns, func() {
		var err error
		conn, err = net.DialTimeout(network, address, dialTimeout)
		check(t, err)
	})
	t.Cleanup(func() { conn.Close() })
	check(t, conn.SetDeadline(time.Now().Add(5*dialTimeout)))
	return conn
}

// roundTrip sends random bytes and reads them back.
func roundTrip(t testing.TB, conn net.Conn, size int) {
	t.Helper()
	sent, got := make([]byte, size), make([]byte, size)
	rand.Read(sent)
	go conn.Write(sent)
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(sent, got) {
		t.Errorf("%d bytes did not come back as they were sent (%v)", size, err)
	}
}

func option(t testing.TB, conn net.Conn, level, name int) (value int) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	check(t, err)
	check(t, errors.Join(raw.Control(func(fd uintptr) { value, err = syscall.GetsockoptInt(int(fd), level, name) }), err))
	return value
}

func setOption(t testing.TB, conn net.Conn, level, name, value int) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	check(t, err)
	check(t, errors.Join(raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), level, name, value) }), err))
}
