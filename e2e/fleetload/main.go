// Command fleetload is a fleet of agents without engines, to see what they ask of a server: each has its own certificate and
// its own connection. It takes the certificates from the authority in the server's data directory, as joining one by one would
// take longer than what is to be measured. Usage: fleetload SERVER DATA-DIR CLUSTER NODES CHANGES-PER-SECOND
//
// That often one of the Pods that are Ready ceases to be for a second. Each such change says in the condition's message when
// it was made, in nanoseconds.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mainstay-cluster/mainstay/node/link/linktest"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

const (
	// podStart is how long a Pod takes to be Ready.
	podStart = 50 * time.Millisecond
	// unready is for how long a Pod that changes is not Ready.
	unready = time.Second
	// joinGap spreads the fleet's first calls: a rack does not start within one millisecond.
	joinGap = time.Millisecond
	ping    = 5 * time.Second // that of a real agent
)

// gcPercent trades memory for the processor's time: where the agents run beside the server, they should take little from it that agents
// on machines of their own would not.
const gcPercent = 400

func main() {
	debug.SetGCPercent(gcPercent)
	if len(os.Args) != 6 {
		log.Fatal("usage: fleetload SERVER DATA-DIR CLUSTER NODES CHANGES-PER-SECOND")
	}
	nodes, err := strconv.Atoi(os.Args[4])
	if err != nil {
		log.Fatal(err)
	}
	changes, err := strconv.Atoi(os.Args[5])
	if err != nil {
		log.Fatal(err)
	}
	authority, err := pki.Open(filepath.Join(os.Args[2], "pki"), time.Now)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	var failed failures
	go failed.print(ctx)
	var all sync.WaitGroup
	agents := make([]*linktest.Agent, nodes)
	for i := range agents {
		agents[i] = agent(authority, i, failed.note)
	}
	for _, a := range agents {
		all.Go(func() { a.Run(ctx) })
		time.Sleep(joinGap)
	}
	if changes > 0 {
		all.Go(func() { change(ctx, agents, time.Second/time.Duration(changes)) })
	}
	all.Wait()
}

// agent makes the i-th, which has its own connection.
func agent(authority *pki.Authority, i int, failed func(error)) *linktest.Agent {
	name := fmt.Sprintf("node-%04d", i)
	identity := authority.Renewing(pki.Identity{Name: name, Machine: name, Group: pki.GroupNodes, Hosts: []string{pki.NodeHost(name)}})
	return &linktest.Agent{
		Name: name, Cluster: os.Args[3], Server: "https://" + os.Args[1], Address: linktest.Address(i), Start: podStart, Failed: failed,
		Client: &http.Client{Transport: &http.Transport{
			TLSClientConfig: identity.ToServers(), ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: ping},
		}},
	}
}

// change has some Pod change at each tick.
func change(ctx context.Context, agents []*linktest.Agent, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		a := agents[rand.N(len(agents))]
		if ready := a.ReadyPods(); len(ready) > 0 {
			uid := ready[rand.N(len(ready))]
			a.SetNotReady(uid, now())
			time.AfterFunc(unready, func() { a.SetReady(uid, now()) })
		}
	}
}

func now() string { return strconv.FormatInt(time.Now().UnixNano(), 10) }

// failures tells of calls that failed once a second, the newest for all.
type failures struct {
	count  atomic.Int64
	newest atomic.Pointer[error]
}

func (f *failures) note(err error) {
	f.newest.Store(&err)
	f.count.Add(1)
}

func (f *failures) print(ctx context.Context) {
	for before := int64(0); ctx.Err() == nil; time.Sleep(time.Second) {
		if n := f.count.Load(); n > before {
			log.Printf("%d calls failed so far, the newest: %v", n, *f.newest.Load())
			before = n
		}
	}
}
