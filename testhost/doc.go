// Package testhost makes Linux hosts for tests: each has a network namespace, an address on a common network and a Docker
// Engine of its own, so tests never touch the user's engine, run side by side, and may stop, kill or freeze what they use.
//
// A test that acts on a host from outside asks for one, or for several that reach each other and the test itself:
//
//	host := testhost.New(t)                       // one host
//	network := testhost.NewNetwork(t)             // several
//	a, b := network.Host(t), network.Host(t)
//	image := a.BusyboxImage(t, "busybox:1")       // images need no registry
//	a.Command(t.Context(), "/path/to/mainstay", "agent", "--docker-host", a.DockerHost())
//
// A test whose own code must run on the host, because it uses netlink, puts the whole test process into a fresh network
// namespace and gives that an engine:
//
//	func TestMain(m *testing.M) { testhost.Main(m) }
//	func TestX(t *testing.T)    { host := testhost.Local(t) … }
//
// Everything is removed when the test ends. What a killed test process left behind is found by its name (mst0, mst1, …) and the
// process that owned it, and removed the next time anybody asks for a host. What is missing on the machine fails the test and
// says what to install; nothing is ever skipped. Start at New.
package testhost
