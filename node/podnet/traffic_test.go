package podnet

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/testhost"
)

// dropping starts an engine on a host that does not forward yet. The engine turns that on, and then drops what it does not know.
func dropping(t *testing.T) {
	t.Helper()
	check(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0))
	testhost.Local(t)
	if out, err := exec.Command("iptables", "-S", "FORWARD").Output(); err != nil || !strings.Contains(string(out), "-P FORWARD DROP") {
		t.Fatalf("the engine's firewall is not what this test is about (%v):\n%s", err, out)
	}
}

// TestTraffic runs everything behind a real Docker Engine's firewall.
func TestTraffic(t *testing.T) {
	dropping(t)
	switched := testhost.NewNetwork(t)
	outside := switched.BareHost(t)
	host := switched.Gateway().String()

	n := open(t, "traffic")
	web, webIP := plug(t, n, "web", HostPort{HostPort: 8080, Port: 80, Protocol: corev1.ProtocolTCP},
		HostPort{HostIP: switched.Gateway(), HostPort: 8081, Port: 80})
	client, clientIP := plug(t, n, "client")
	serve(t, web.ns, ":80")
	serve(t, "", ":9000")
	serve(t, outside.NetNS, ":9002")
	outside.Run(t, "ip", "route", "add", podRange.String(), "via", host)

	for name, tc := range map[string]struct {
		from, to, want string // want is the source the server sees; "" if it must not be reached
	}{
		"host to Pod":                     {"", webIP.String() + ":80", gateway(podRange).String()},
		"Pod to Pod":                      {client.ns, webIP.String() + ":80", clientIP.String()},
		"Pod to itself":                   {web.ns, webIP.String() + ":80", webIP.String()},
		"Pod to its loopback":             {web.ns, "127.0.0.1:80", "127.0.0.1"},
		"Pod to host":                     {client.ns, host + ":9000", clientIP.String()},
		"Pod outwards":                    {client.ns, outside.IP.String() + ":9002", host},
		"outside to Pod, with a route":    {outside.NetNS, webIP.String() + ":80", outside.IP.String()},
		"outside to host port":            {outside.NetNS, host + ":8080", outside.IP.String()},
		"outside to host port of one IP":  {outside.NetNS, host + ":8081", outside.IP.String()},
		"host to host port":               {"", host + ":8080", host},
		"host to host port by loopback":   {"", "127.0.0.1:8080", gateway(podRange).String()},
		"host port of one IP by another":  {"", "127.0.0.1:8081", ""},
		"Pod to host port":                {client.ns, host + ":8080", clientIP.String()},
		"Pod to its own host port":        {web.ns, host + ":8080", gateway(podRange).String()},
		"Pod to host port by the gateway": {client.ns, gateway(podRange).String() + ":8080", clientIP.String()},
	} {
		t.Run(name, func(t *testing.T) {
			if got := askWithin(t, patience(tc.want), tc.from, tc.to); got != tc.want {
				t.Errorf("the server sees %q, want %q", got, tc.want)
			}
		})
	}
}

// TestPodsCannotReachTheHostsLoopback has a Pod send packets for 127.0.0.1 out of its link, as only root in it can.
func TestPodsCannotReachTheHostsLoopback(t *testing.T) {
	n := open(t, "loopback")
	evil, _ := plug(t, n, "evil")
	serve(t, "", "127.0.0.1:9001")
	for _, command := range []string{
		"sysctl -w net.ipv4.conf.eth0.route_localnet=1", "ip addr del 127.0.0.1/8 dev lo", "ip route add 127.0.0.1 dev eth0 onlink via " + gateway(podRange).String(),
	} {
		run(t, "nsenter --net="+evil.ns+" "+command)
	}
	if askWithin(t, silence, evil.ns, "127.0.0.1:9001") != "" {
		t.Error("the Pod reached the host's loopback")
	}
	// Without the rule it does: else this test would prove nothing.
	run(t, "nft flush chain ip "+n.Name()+" protect")
	if ask(t, evil.ns, "127.0.0.1:9001") == "" {
		t.Error("the Pod did not even try")
	}
}
