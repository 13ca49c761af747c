package docker

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

const hostResolv = "# by somebody\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch old.example\nsearch corp.example lan\noptions edns0 ndots:1\nsortlist\n"

func TestResolvConfIsKubernetes(t *testing.T) {
	const cluster = "nameserver 10.244.3.1\nnameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local corp.example lan\noptions ndots:5\n"
	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		want string
	}{
		"ClusterFirst":             {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, cluster},
		"no policy":                {corev1.PodSpec{}, cluster},
		"ClusterFirstWithHostNet":  {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirstWithHostNet, HostNetwork: true}, cluster},
		"Default":                  {corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, "nameserver 10.244.3.1\nnameserver 192.0.2.53\nsearch corp.example lan\noptions edns0 ndots:1\n"},
		"None":                     {corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}}}, "nameserver 192.0.2.1\n"},
		"ClusterFirst on the host": {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true, DNSConfig: &corev1.PodDNSConfig{}}, "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch corp.example lan\noptions edns0 ndots:1\n"},
		"one more": {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1"}}},
			strings.Replace(cluster, "nameserver 10.96.0.10\n", "nameserver 10.96.0.10\nnameserver 192.0.2.1\n", 1)},
		"dnsConfig is merged": {corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: &corev1.PodDNSConfig{
			Nameservers: []string{"10.244.3.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"}, Searches: []string{"lan", "more.example"},
			Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "rotate"}},
		}}, "nameserver 10.244.3.1\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n" +
			"search default.svc.cluster.local svc.cluster.local cluster.local corp.example lan more.example\noptions ndots:2 rotate\n"},
	} {
		p := pod("p")
		p.Spec = tc.spec
		if got := podResolv(p, []netip.Addr{netip.MustParseAddr("10.244.3.1"), netip.MustParseAddr("10.96.0.10")}, parseResolv(hostResolv)).String(); got != tc.want {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, tc.want)
		}
	}
}

func TestSearchesFitResolvers(t *testing.T) {
	many := resolv{searches: []string{strings.Repeat("z", 99)}}
	for i := range 40 {
		many.searches = append(many.searches, strings.Repeat(string(rune('a'+i%26)), 60+i))
	}
	got := many.limited().searches
	if n := len(strings.Join(got, " ")); n > maxSearchChars || n < maxSearchChars-200 {
		t.Errorf("%d searches with %d characters", len(got), n)
	}
}

func TestNamesOfAPod(t *testing.T) {
	p := pod("web-0")
	p.Spec.Hostname, p.Spec.Subdomain = "web-0", "web"
	content, err := hosts(p, netip.MustParseAddr("10.244.3.9"))
	check(t, err)
	if want := "\n10.244.3.9\tweb-0.web.default.svc.cluster.local\tweb-0\n"; !strings.HasSuffix(string(content), want) {
		t.Errorf("hosts:\n%s", content)
	}
	for _, tc := range []struct {
		whole           *bool
		subdomain, want string
	}{
		{nil, "web", "web-0"}, {ptr.To(true), "", "web-0"}, {ptr.To(true), "web", "web-0.web.default.svc.cluster.local"},
		{ptr.To(true), strings.Repeat("s", 60), ""},
	} {
		p.Spec.SetHostnameAsFQDN, p.Spec.Subdomain = tc.whole, tc.subdomain
		if got, err := kernelName(p); got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("subdomain %q: %q (%v), want %q", tc.subdomain, got, err, tc.want)
		}
	}
}

// TestNamesInsideAContainer runs what the tests above only write.
func TestNamesInsideAContainer(t *testing.T) {
	f := newFixture(t)
	p := pod("web-0", "sleep", "600")
	p.Spec.Hostname, p.Spec.Subdomain, p.Spec.SetHostnameAsFQDN = "web-0", "web", ptr.To(true)
	id := f.run(t, p).ID
	ip := f.look(t, f.Runtime, p).Sandbox.IP.String()
	expect := func(want string, command ...string) {
		t.Helper()
		code, out, err := f.Exec(t.Context(), id, command)
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || code != 0 || !strings.HasPrefix(got, want) {
			t.Errorf("%s: exit code %d (%v): %s\nwant %s", command, code, err, got, want)
		}
	}
	expect("web-0.web.default.svc.cluster.local", "hostname")
	expect(ip+" web-0.web.default.svc.cluster.local web-0", "tail", "-n1", "/etc/hosts")
	expect("nameserver 10.244.3.1 search default.svc.cluster.local svc.cluster.local cluster.local", "cat", "/etc/resolv.conf")
	// It is written for every attempt anew, so also for Pods of an agent that did not write it.
	dir, err := f.podDir(string(p.UID))
	check(t, err)
	check(t, os.Remove(dir+"/"+resolvFile))
	check(t, f.start(t, p, 1))
	id = f.container(t, p).ID
	expect("nameserver 10.244.3.1", "cat", "/etc/resolv.conf")
}
