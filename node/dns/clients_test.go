package dns

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clientConf is what a Pod of namespace shop has, with the server where these tests run it.
const clientConf = "nameserver 127.77.30.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"

// TestClientsOfPodsUnderstand asks by the resolvers that containers have: those of the C library, of busybox and of Go. Resolvers
// know no port but 53, and one resolv.conf, which they get in a mount namespace of their own.
func TestClientsOfPodsUnderstand(t *testing.T) {
	serverOn(t, "127.77.30.0/24", example(), dnsPort, noServers(t))
	exchange(t, "udp", "127.77.30.1:53", query("A", "web.shop.svc.cluster.local."))
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	check(t, os.WriteFile(conf, []byte(clientConf), 0o644))
	for command, want := range map[string]string{
		"getent ahostsv4 web":                                             "10.96.0.2",
		"getent ahostsv4 kubernetes.default":                              "10.96.0.1",
		"getent ahostsv4 kubernetes.default.svc":                          "10.96.0.1",
		"getent hosts db-0.db":                                            "10.244.1.7 db-0.db.shop.svc.cluster.local",
		"getent ahostsv4 in.default":                                      "10.96.0.2",
		"getent hosts 10.96.0.2":                                          "10.96.0.2 web.shop.svc.cluster.local",
		"getent hosts nobody":                                             "",
		"busybox nslookup web.shop.svc.cluster.local":                     "Address: 10.96.0.2",
		"busybox nslookup db-0.db.shop.svc.cluster.local":                 "Address: 10.244.0.5",
		"busybox nslookup -type=srv _dns._udp.web.shop.svc.cluster.local": "service = 0 100 53 web.shop.svc.cluster.local",
		"busybox nslookup absent.shop.svc.cluster.local":                  "NXDOMAIN",
	} {
		out, err := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", "mount --bind "+conf+" /etc/resolv.conf && exec "+command).CombinedOutput()
		got := strings.Join(strings.Fields(string(out)), " ")
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %v\n%s\nwant %s", command, err, out, want)
		}
	}
}

func TestGoPrograms(t *testing.T) {
	port := freePort(t, "127.77.31.1")
	serverOn(t, "127.77.31.0/24", example(), port, noServers(t))
	address := net.JoinHostPort("127.77.31.1", strconv.Itoa(int(port)))
	exchange(t, "udp", address, query("A", "web.shop.svc.cluster.local."))
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	expect := func(what string, got []string, err error, want ...string) {
		t.Helper()
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", what, err, diff)
		}
	}
	hosts, err := r.LookupHost(ctx, "db.shop.svc.cluster.local.")
	expect("addresses", hosts, err, "10.244.0.5", "10.244.1.5", "10.244.1.7")
	names, err := r.LookupAddr(ctx, "10.96.0.1")
	expect("names", names, err, "kubernetes.default.svc.cluster.local.")
	texts, err := r.LookupTXT(ctx, "dns-version.cluster.local.")
	expect("schema", texts, err, schema)
	_, records, err := r.LookupSRV(ctx, "https", "tcp", "kubernetes.default.svc.cluster.local.")
	if err != nil || len(records) != 1 || records[0].Port != 443 || records[0].Target != "kubernetes.default.svc.cluster.local." {
		t.Errorf("ports: %v (%v)", records, err)
	}
	if alias, err := r.LookupCNAME(ctx, "in.default.svc.cluster.local."); err != nil || alias != "web.shop.svc.cluster.local." {
		t.Errorf("alias: %s (%v)", alias, err)
	}
	var absent *net.DNSError
	if _, err := r.LookupHost(ctx, "absent.shop.svc.cluster.local."); !errors.As(err, &absent) || !absent.IsNotFound {
		t.Errorf("an absent name: %v", err)
	}
}
