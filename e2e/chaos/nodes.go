package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/mainstay-cluster/mainstay/node/link/linktest"
	"github.com/mainstay-cluster/mainstay/server/pki"
)

const (
	nodeCount = 3
	podStart  = 50 * time.Millisecond
	nodePing  = 5 * time.Second // that of a real agent
)

// nodes are agents without engines. They go to another server when theirs does not answer.
type nodes struct {
	agents []*linktest.Agent
	failed atomic.Int64
	stop   context.CancelFunc
	all    sync.WaitGroup
}

// newNodes starts agents with certificates from the authority in the first server's data, as joining is another test's matter.
func (c *cluster) newNodes() (*nodes, error) {
	authority, err := pki.Open(filepath.Join(c.servers[0].data, "pki"), time.Now)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	n := &nodes{stop: stop}
	for i := range nodeCount {
		name := fmt.Sprintf("node-%d", i+1)
		identity := authority.Renewing(pki.Identity{Name: name, Machine: name, Group: pki.GroupNodes, Hosts: []string{pki.NodeHost(name)}})
		base := &http.Transport{
			TLSClientConfig: identity.ToServers(), ForceAttemptHTTP2: true, HTTP2: &http.HTTP2Config{SendPingTimeout: nodePing, PingTimeout: nodePing},
		}
		agent := &linktest.Agent{
			Name: name, Cluster: "chaos", Server: "https://" + c.servers[0].address, Address: linktest.Address(i), Start: podStart,
			Failed: func(error) { n.failed.Add(1) }, Client: &http.Client{Transport: &failover{base: base, servers: c.servers}},
		}
		n.agents = append(n.agents, agent)
		n.all.Go(func() { agent.Run(ctx) })
	}
	c.t.Cleanup(n.end)
	return n, nil
}

func (n *nodes) end() {
	n.stop()
	n.all.Wait()
}

// running are the Pods that nodes run, sorted.
func (n *nodes) running() (pods []types.UID) {
	for _, a := range n.agents {
		pods = append(pods, a.ReadyPods()...)
	}
	slices.Sort(pods)
	return pods
}

// complete is an error unless every Pod runs.
func (n *nodes) complete() error {
	if got := len(n.running()); got != pods {
		return fmt.Errorf("%d of %d Pods run", got, pods)
	}
	return nil
}

// failover sends requests to one server as long as it answers, and then to the next.
type failover struct {
	base    http.RoundTripper
	servers []*server
	at      atomic.Uint32
}

func (f *failover) RoundTrip(r *http.Request) (*http.Response, error) {
	at := f.at.Load()
	r = r.Clone(r.Context())
	r.URL.Host = f.servers[int(at)%len(f.servers)].address
	resp, err := f.base.RoundTrip(r)
	ended := err != nil && !errors.Is(r.Context().Err(), context.Canceled)
	if ended || err == nil && resp.StatusCode >= http.StatusInternalServerError {
		f.at.CompareAndSwap(at, at+1)
	}
	return resp, err
}
