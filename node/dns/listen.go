package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// listener is an address' two sockets.
type listener struct {
	udp *net.UDPConn
	tcp *net.TCPListener
}

// listen opens both, even before an interface has the address: the bridge of the Pods is made with the first of them.
func listen(ctx context.Context, address netip.AddrPort) (*listener, error) {
	config := net.ListenConfig{Control: freeBind}
	udp, err := config.ListenPacket(ctx, "udp", address.String())
	if err != nil {
		return nil, err
	}
	tcp, err := config.Listen(ctx, "tcp", address.String())
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	return &listener{udp: udp.(*net.UDPConn), tcp: tcp.(*net.TCPListener)}, nil
}

func freeBind(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_FREEBIND, 1) })
	return errors.Join(err, set)
}

const (
	// lastAnswers bounds how long what was asked before the end, and others must be asked for, may take.
	lastAnswers = 200 * time.Millisecond
	// lastReads bounds how long it may take until what was asked before the end is read: no time, but on a machine that is very busy.
	lastReads = 5 * time.Second
)

// run serves until ctx ends, left is closed (errLeft) or a socket fails. What was asked by then is answered, though within
// lastAnswers, and what is asked later is refused at once: nobody waits for an answer that never comes. Then both sockets are
// closed.
func (l *listener) run(ctx context.Context, s *Server, left <-chan struct{}) error {
	defer l.tcp.Close()
	defer l.udp.Close()
	answering, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	reading, readNoMore := context.WithCancel(context.WithoutCancel(ctx))
	defer readNoMore()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-left:
			return errLeft
		case <-ctx.Done():
			return nil
		}
	})
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(lastAnswers, giveUp)
		time.AfterFunc(lastReads, readNoMore)
	})()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) { s.handle(answering, w, r) })
	serveOne(ctx, g, &dns.Server{PacketConn: l.udp, UDPSize: udpSize, Handler: handler}, func(<-chan struct{}) { l.finishUDP(reading) })
	serveOne(ctx, g, &dns.Server{Listener: l.tcp, Handler: handler}, func(ended <-chan struct{}) { l.finishTCP(answering, ended) })
	return g.Wait()
}

// serveOne serves one socket until ctx ends and finish has returned, which is told when nothing is served any more.
func serveOne(ctx context.Context, g *errgroup.Group, server *dns.Server, finish func(ended <-chan struct{})) {
	started, ended := make(chan struct{}), make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	g.Go(func() error {
		defer close(ended)
		if err := server.ActivateAndServe(); ctx.Err() == nil {
			return err
		}
		return nil // finish may close the socket
	})
	g.Go(func() error {
		select {
		case <-started: // it cannot be shut down before
		case <-ended:
			return nil
		}
		select {
		case <-ctx.Done():
			finish(ended)
			return server.ShutdownContext(context.WithoutCancel(ctx))
		case <-ended:
			return nil
		}
	})
}

// finishUDP returns when nothing lies in the socket unread, or ctx ends: closing it would lose that without a word.
func (l *listener) finishUDP(ctx context.Context) {
	socket, err := l.udp.SyscallConn()
	if err != nil {
		return // it is closed
	}
	seal(socket)
	awaitRead(ctx, socket)
}

// seal connects a socket to itself, which leaves nobody else who could send to it. That fails only as long as no interface has
// the address, and then nobody could have asked.
func seal(socket syscall.RawConn) {
	_ = socket.Control(func(fd uintptr) {
		if self, err := unix.Getsockname(int(fd)); err == nil {
			_ = unix.Connect(int(fd), self)
		}
	})
}

// finishTCP returns when every connection that was made has been served and closed, or ctx ends.
func (l *listener) finishTCP(ctx context.Context, ended <-chan struct{}) {
	socket, err := l.tcp.SyscallConn()
	if err != nil {
		return // it is closed
	}
	awaitRead(ctx, socket)
	l.tcp.Close()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// awaitRead returns when nothing waits in a socket to be read or accepted, or ctx ends.
func awaitRead(ctx context.Context, socket syscall.RawConn) {
	const again = time.Millisecond
	for waits(socket) {
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
	}
}

func waits(socket syscall.RawConn) (something bool) {
	err := socket.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		something = n > 0 || errors.Is(err, unix.EINTR)
	})
	return err == nil && something
}
