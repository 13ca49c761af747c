package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mainstay-cluster/mainstay/testhost"
)

const (
	serverPort = ":7443"
	// nodePort is where every node answers for Service web.
	nodePort = ":30080"
	// probePort is where the prober in a Pod says what came of its requests, through its node.
	probePort = ":9000"
	// probePorts are where those outside do, from this one on.
	probePorts = 9000
)

// fleet is a server and several nodes, each on a host of its own, and a prober that asks every Service from without.
type fleet struct {
	*cluster
	address string // of the server
	network *testhost.Network
	nodes   []*member
	probers uint16 // outside, so far
}

// member is a node.
type member struct {
	*cluster // its host and data; proc is its agent
	name     string
	engine   []string // flags of its engine
	found    traces   // on its host before it joined
}

// newFleet makes a server, n nodes of it, and then a commit with files; it returns when that runs.
func newFleet(t testing.TB, n int, files map[string]string) *fleet {
	t.Helper()
	f := newControl(t, files)
	for range n {
		f.grow(t)
	}
	f.deploy(t, files)
	return f
}

// newControl makes a server without nodes, of whose files only the cluster's settings are committed.
func newControl(t testing.TB, files map[string]string) *fleet {
	t.Helper()
	network := testhost.NewNetwork(t)
	f := &fleet{network: network}
	f.cluster = f.machine(t, network.BareHost(t))
	f.address = f.host.IP.String() + serverPort
	f.repo = filepath.Join(f.host.Dir, "repo")
	f.begin(t, map[string]string{"mainstay.yaml": files["mainstay.yaml"]})
	t.Cleanup(func() { f.stop(t) })
	f.serve(t)
	return f
}

// grow makes a host with an engine, whose flags override the usual ones, and a node of it.
func (f *fleet) grow(t testing.TB, engine ...string) *member {
	t.Helper()
	host := f.network.BareHost(t)
	host.StartEngine(t, engine...)
	equip(t, host)
	m := &member{cluster: f.machine(t, host), name: fmt.Sprintf("n%d", len(f.nodes)+1), engine: engine}
	m.found = look(t, host)
	t.Cleanup(func() { m.stop(t) })
	f.nodes = append(f.nodes, m)
	f.join(t, m)
	return m
}

// deploy commits files once all nodes are Ready and waits until they run.
func (f *fleet) deploy(t testing.TB, files map[string]string) {
	t.Helper()
	for _, m := range f.nodes {
		f.awaitNode(t, m.name, "Ready")
	}
	f.converge(t, f.commit(t, "shop", files))
}

// equip puts the images of the tests on a host.
func equip(t testing.TB, host *testhost.Host) {
	t.Helper()
	host.BinaryImage(t, binary(t, "github.com/mainstay-cluster/mainstay/examples/hello"), "hello:1.0", "hello:2.0")
	host.BinaryImage(t, binary(t, "github.com/mainstay-cluster/mainstay/e2e/probe"), "probe:1.0")
}

// machine is a host on which the program may run.
func (f *fleet) machine(t testing.TB, host *testhost.Host) *cluster {
	t.Helper()
	host.Run(t, "ip", "route", "add", "default", "via", f.network.Gateway().String())
	return &cluster{host: host, data: filepath.Join(host.Dir, "mainstay"), bin: binary(t, "github.com/mainstay-cluster/mainstay/cmd/mainstay")}
}

// serve starts the server and waits until it answers.
func (f *fleet) serve(t testing.TB) {
	t.Helper()
	f.launch(t, "server", "--repo", f.repo, "--data-dir", f.data, "--listen", f.address, "--advertise", f.address)
	f.eventually(t, "the server answers", func() error {
		_, err := f.try("version")
		return err
	})
}

// join makes a machine a node, by a token that is good once.
func (f *fleet) join(t testing.TB, m *member) {
	t.Helper()
	token, err := f.run(f.bin, "token", "create", "--role", "agent", "--once", "--data-dir", f.data)
	if err != nil {
		t.Fatal(err)
	}
	f.startAgent(t, m, "--token", strings.TrimSpace(token))
}

// startAgent starts a node's agent; one that has joined needs no token.
func (f *fleet) startAgent(t testing.TB, m *member, args ...string) {
	t.Helper()
	m.launch(t, append([]string{"agent", "--server", f.address, "--data-dir", m.data, "--docker-host", m.host.DockerHost(), "--node-name", m.name}, args...)...)
}

// statusOf is the STATUS column of a node.
func (f *fleet) statusOf(node string) (string, error) {
	out, err := f.try("get", "node", node)
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Fields(lines[len(lines)-1])[1], nil
}

// awaitNode waits until a node has a status.
func (f *fleet) awaitNode(t testing.TB, node, status string) {
	t.Helper()
	f.eventually(t, "node "+node+" is "+status, func() error {
		got, err := f.statusOf(node)
		if err == nil && got != status {
			err = errors.New(got)
		}
		return err
	})
}

// everywhere lists the running containers of all nodes, by node and name.
func (f *fleet) everywhere(t testing.TB, nodes ...*member) map[string]container {
	t.Helper()
	all := map[string]container{}
	for _, m := range nodes {
		for name, c := range m.containers(t) {
			all[m.name+" "+name] = c
		}
	}
	return all
}

// awaitNames waits until a node's agent answers names.
func (f *fleet) awaitNames(t testing.TB, m *member) {
	t.Helper()
	f.eventually(t, m.name+" answers names", func() error {
		const dns = ":0035 "
		if sockets := m.host.Run(t, "cat", "/proc/net/udp"); !strings.Contains(sockets, dns) {
			return errors.New("nobody listens at port 53:\n" + sockets)
		}
		return nil
	})
}
